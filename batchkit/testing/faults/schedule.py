"""What an unreliable provider does, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import attrs

__all__ = ["FAULTS_OF", "Fault", "FaultSchedule"]


class Fault(str, Enum):
    """One thing that goes wrong with one request."""

    UNREACHABLE = "never connected"
    LOST_REQUEST = "request lost on its way"
    LOST_ANSWER = "took effect, answer lost"
    LATE = "takes effect later, answer lost"
    SERVER_ERROR = "500 without effect"
    SERVER_ERROR_AFTER = "500 after its effect"
    OVERLOADED = "529 without effect"
    OVERLOADED_AFTER = "529 after its effect"
    GATEWAY_PAGE = "504 as a page of HTML, after its effect"
    ODD_SUCCESS = "200 with HTML or an empty object, after its effect"
    CUT_ANSWER = "200 with half an object, after its effect"
    RATE_LIMITED = "429 with retry-after"
    QUEUE_FULL = "429 for a full queue"
    SPEND_LIMIT = "429 for a spend cap"
    SPEND_LIMIT_400 = "400 for one's own spend limit"
    STALE = "an old answer out of a cache"
    ELSEWHERE = "headers of another workspace"
    DATELESS = "no Date header"
    UNKNOWN = "404 for what exists"
    CUT = "the stream breaks off"
    CUT_SILENTLY = "the stream ends early, as if it were whole"
    DUPLICATED = "a line twice"
    FOREIGN = "a line of somebody else's"


_ANY = (Fault.UNREACHABLE, Fault.LOST_ANSWER, Fault.SERVER_ERROR, Fault.RATE_LIMITED)

FAULTS_OF: Mapping[str, tuple[Fault, ...]] = MappingProxyType(
    {
        "create": (
            Fault.UNREACHABLE,
            Fault.LOST_REQUEST,
            Fault.LOST_ANSWER,
            Fault.LATE,
            Fault.SERVER_ERROR,
            Fault.SERVER_ERROR_AFTER,
            Fault.OVERLOADED,
            Fault.OVERLOADED_AFTER,
            Fault.GATEWAY_PAGE,
            Fault.ODD_SUCCESS,
            Fault.CUT_ANSWER,
            Fault.RATE_LIMITED,
            Fault.QUEUE_FULL,
            Fault.SPEND_LIMIT,
            Fault.SPEND_LIMIT_400,
        ),
        "list": (*_ANY, Fault.STALE, Fault.ELSEWHERE, Fault.DATELESS),
        "retrieve": (*_ANY, Fault.UNKNOWN),
        "results": (
            *_ANY,
            Fault.UNKNOWN,
            Fault.CUT,
            Fault.CUT_SILENTLY,
            Fault.DUPLICATED,
            Fault.FOREIGN,
        ),
        "cancel": (*_ANY, Fault.LOST_REQUEST),
    }
)
"""Which faults each kind of request may meet."""


def _share(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} is a share between 0 and 1, not {value!r}")


_SECONDS = attrs.validators.ge(0.0)


@attrs.frozen(kw_only=True)
class FaultSchedule:
    """How unreliable a provider is. The same schedule and the same requests give the same faults.

    Attributes:
        seed: Decides everything that is drawn.
        rate: The share of requests that meet a fault, and of new batches that the list shows late.
        lateness: The most seconds after which a create whose answer was lost may still take effect.
        lag: The most seconds for which the list may not know a new batch; meanwhile it flickers.
        strangers: Batches that somebody else creates in the same workspace, per hour; half have the count of
            one of ours.
        deletions: The share of those batches that their owner cancels and deletes within the hour.
        faults: Which faults may happen; None admits all. Those that a kind of request cannot meet it does not meet.
    """

    seed: int = 0
    rate: float = attrs.field(default=0.0, validator=_share)
    lateness: float = attrs.field(default=900.0, validator=_SECONDS)
    lag: float = attrs.field(default=120.0, validator=_SECONDS)
    strangers: float = attrs.field(default=0.0, validator=_SECONDS)
    deletions: float = attrs.field(default=0.0, validator=_share)
    faults: frozenset[Fault] | None = None

    def of(self, kind: str) -> tuple[Fault, ...]:
        """Give the faults that a kind of request (a name in ``FAULTS_OF``) may meet."""
        faults = FAULTS_OF.get(kind, _ANY)
        return faults if self.faults is None else tuple(f for f in faults if f in self.faults)
