"""Events as documents: the same bytes in every backend."""

from __future__ import annotations

import json

from batchkit.ids import RunId
from batchkit.model import NewEvent


def event_scope(run: RunId) -> str:
    """Give the scope under which a run's events are appended."""
    return f"run-{run}"


def encode_event(event: NewEvent, at: float) -> bytes:
    """Encode an event that happened at ``at`` (epoch seconds)."""
    return json.dumps(
        {"kind": event.kind, "at": at, "severity": event.severity, "data": dict(event.data)},
        sort_keys=True,
        separators=(",", ":"),
    ).encode()
