"""Test pipelines without a key: a simulator of the Message Batches API, clocks, and contracts for stores and targets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchkit.testing.answers import Answer, Model, echo_model, fixed_model
from batchkit.testing.batch import Latency
from batchkit.testing.bill import Bill
from batchkit.testing.client import served_client, simulated_client
from batchkit.testing.clock import FakeClock, SimulatedClock
from batchkit.testing.http import Dropped, Request, Response
from batchkit.testing.serving import serve
from batchkit.testing.settings import Settings
from batchkit.testing.simulator import Handler, SimulatedAPI

if TYPE_CHECKING:
    from batchkit.testing.store_contract import KeyValueContract as KeyValueContract
    from batchkit.testing.store_contract import StoreContract as StoreContract
    from batchkit.testing.target_contract import EveryTargetContract as EveryTargetContract
    from batchkit.testing.target_contract import TargetContract as TargetContract

__all__ = [
    "Answer",
    "Bill",
    "Dropped",
    "EveryTargetContract",
    "FakeClock",
    "Handler",
    "KeyValueContract",
    "Latency",
    "Model",
    "Request",
    "Response",
    "Settings",
    "SimulatedAPI",
    "SimulatedClock",
    "StoreContract",
    "TargetContract",
    "echo_model",
    "fixed_model",
    "serve",
    "served_client",
    "simulated_client",
]

_CONTRACTS = {
    "EveryTargetContract": "target_contract",
    "KeyValueContract": "store_contract",
    "StoreContract": "store_contract",
    "TargetContract": "target_contract",
}


def __getattr__(name: str) -> Any:
    """Import the contracts when somebody asks for them: they need pytest, and nothing else here does."""
    if name not in _CONTRACTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_CONTRACTS[name]}"), name)
