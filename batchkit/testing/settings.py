"""What can be set on a simulator."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from batchkit.testing.batch import Latency
from batchkit.testing.clock import DEFAULT_START

__all__ = ["Settings"]


@attrs.frozen(kw_only=True)
class Settings:
    """The limits and habits of one simulated provider; the defaults are the API's own.

    Attributes:
        seed: Decides ids, durations, answers and the order of results.
        start: Where virtual time begins, in seconds since the epoch.
        latency: How long batches take.
        drain: How long a cancellation takes, least and most, in seconds.
        max_requests: The most requests one batch may have.
        max_bytes: The most bytes the body of a create may have.
        queue_limit: The most requests that may wait in all batches of the organization.
        workspaces: The workspace of each API key; other keys are refused. Empty takes every key.
        workspace: The workspace of every key when ``workspaces`` is empty.
        organization: The organization named in answers.
    """

    seed: int = 0
    start: float = DEFAULT_START
    latency: Latency = attrs.field(factory=Latency)
    drain: tuple[float, float] = (10.0, 90.0)
    max_requests: int = 100_000
    max_bytes: int = 256_000_000
    queue_limit: int = 200_000
    workspaces: Mapping[str, str] = attrs.field(factory=dict)
    workspace: str = "wrkspc_01simulated"
    organization: str = "00000000-0000-4000-8000-000000000001"
