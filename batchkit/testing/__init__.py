"""Test pipelines without a key: a simulator of the Message Batches API, and clocks."""

from batchkit.testing.answers import Answer, Model, echo_model, fixed_model
from batchkit.testing.clock import FakeClock

__all__ = ["Answer", "FakeClock", "Model", "echo_model", "fixed_model"]
