"""Test pipelines without a key: a simulator of the Message Batches API, and clocks."""

from batchkit.testing.answers import Answer, Model, echo_model, fixed_model
from batchkit.testing.batch import Latency
from batchkit.testing.bill import Bill
from batchkit.testing.client import served_client, simulated_client
from batchkit.testing.clock import FakeClock, SimulatedClock
from batchkit.testing.http import Dropped, Request, Response
from batchkit.testing.serving import serve
from batchkit.testing.settings import Settings
from batchkit.testing.simulator import Handler, SimulatedAPI

__all__ = [
    "Answer",
    "Bill",
    "Dropped",
    "FakeClock",
    "Handler",
    "Latency",
    "Model",
    "Request",
    "Response",
    "Settings",
    "SimulatedAPI",
    "SimulatedClock",
    "echo_model",
    "fixed_model",
    "serve",
    "served_client",
    "simulated_client",
]
