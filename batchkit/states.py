"""The three machines as tables. The tables are the documentation; the docs page is made from them.

An event that a table does not list raises :class:`IllegalTransition` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from batchkit.errors import IllegalTransition
from batchkit.reasons import Reason


class RowState(str, Enum):
    """Where one source record stands."""

    PENDING = "pending"
    SUBMITTED = "submitted"
    SUCCEEDED = "succeeded"
    HUMAN = "human"
    QUARANTINED = "quarantined"
    CANCELED = "canceled"
    UNCHANGED = "unchanged"


class RowEvent(str, Enum):
    """What can happen to one source record."""

    FROZEN = "frozen"
    INPUT_REFUSED = "input refused"
    INPUT_SPARSE = "input sparse"
    UNCHANGED = "unchanged since last staged"
    TAKEN = "taken by an intent"
    UNSENDABLE = "cannot be sent"
    RUN_CANCELED = "run canceled"
    TWIN_ACCEPTED = "valid line of a late twin"
    FREED = "batch rejected or absent"
    ACCEPTED = "accept"
    RETRIED = "retry"
    ESCALATED = "escalate"
    RESENT = "resend"
    MONEY_PAUSED = "pause for money"
    LINE_CANCELED = "canceled line while canceling"
    TO_HUMAN = "to the human queue"
    QUARANTINED = "quarantine"
    MISSING_ACCEPTED = "missing line accepted"
    RESULTS_GONE = "results gone after 29 days"
    ANSWERED = "valid answer by a person"
    JUDGED_OUT = "unanswerable or rejected"
    SENT_BACK = "sent back to a tier"
    ANSWER_UNDONE = "a person's answer undone"


class BatchState(str, Enum):
    """Where our record of one Message Batch stands."""

    INTENT = "intent"
    SENDING = "sending"
    DOUBTFUL = "doubtful"
    LIVE = "live"
    ENDED = "ended"
    COLLECTED = "collected"
    REJECTED = "rejected"
    ABSENT = "absent"
    LATE = "late"
    HELD = "held"
    UNRECOVERABLE = "unrecoverable"


class RunState(str, Enum):
    """Where one run stands."""

    FREEZING = "freezing"
    OPEN = "open"
    PAUSED = "paused"
    CANCELING = "canceling"
    CLOSED = "closed"


class Outcome(str, Enum):
    """The bucket of the equation that a row is counted in."""

    SUCCEEDED = "succeeded"
    ERRORED = "errored"
    EXPIRED = "expired"
    CANCELED = "canceled"
    QUARANTINED = "quarantined"
    HUMAN_QUEUED = "human_queued"
    UNCHANGED = "unchanged"
    OPEN = "open"


ROW_TRANSITIONS: Final[Mapping[RowEvent, tuple[RowState | None, RowState]]] = MappingProxyType(
    {
        RowEvent.FROZEN: (None, RowState.PENDING),
        RowEvent.INPUT_REFUSED: (None, RowState.QUARANTINED),
        RowEvent.INPUT_SPARSE: (None, RowState.HUMAN),
        RowEvent.UNCHANGED: (None, RowState.UNCHANGED),
        RowEvent.TAKEN: (RowState.PENDING, RowState.SUBMITTED),
        RowEvent.UNSENDABLE: (RowState.PENDING, RowState.QUARANTINED),
        RowEvent.RUN_CANCELED: (RowState.PENDING, RowState.CANCELED),
        RowEvent.TWIN_ACCEPTED: (RowState.PENDING, RowState.SUCCEEDED),
        RowEvent.FREED: (RowState.SUBMITTED, RowState.PENDING),
        RowEvent.ACCEPTED: (RowState.SUBMITTED, RowState.SUCCEEDED),
        RowEvent.RETRIED: (RowState.SUBMITTED, RowState.PENDING),
        RowEvent.ESCALATED: (RowState.SUBMITTED, RowState.PENDING),
        RowEvent.RESENT: (RowState.SUBMITTED, RowState.PENDING),
        RowEvent.MONEY_PAUSED: (RowState.SUBMITTED, RowState.PENDING),
        RowEvent.LINE_CANCELED: (RowState.SUBMITTED, RowState.CANCELED),
        RowEvent.TO_HUMAN: (RowState.SUBMITTED, RowState.HUMAN),
        RowEvent.QUARANTINED: (RowState.SUBMITTED, RowState.QUARANTINED),
        RowEvent.MISSING_ACCEPTED: (RowState.SUBMITTED, RowState.QUARANTINED),
        RowEvent.RESULTS_GONE: (RowState.SUBMITTED, RowState.QUARANTINED),
        RowEvent.ANSWERED: (RowState.HUMAN, RowState.SUCCEEDED),
        RowEvent.JUDGED_OUT: (RowState.HUMAN, RowState.QUARANTINED),
        RowEvent.SENT_BACK: (RowState.HUMAN, RowState.PENDING),
        RowEvent.ANSWER_UNDONE: (RowState.SUCCEEDED, RowState.HUMAN),
    }
)
"""Each row event has exactly one origin, so a write can be guarded by it: event → (from, to)."""

_B = BatchState
BATCH_TRANSITIONS: Final[Mapping[BatchState, Mapping[BatchState, str]]] = MappingProxyType(
    {
        _B.INTENT: {
            _B.SENDING: "claimed under the current epoch before the send deadline",
            _B.REJECTED: "deadline passed unclaimed, or run canceled",
            _B.DOUBTFUL: "store found copied or restored",
        },
        _B.SENDING: {
            _B.LIVE: "acknowledged",
            _B.REJECTED: "refused, never connected, or our body cut short",
            _B.DOUBTFUL: "anything else, or found by another mover after the lease",
        },
        _B.DOUBTFUL: {
            _B.ENDED: "an ended suspect's first line carries our nonce",
            _B.ABSENT: "grace over, every reading clean, no open suspect",
            _B.HELD: "place not provable, suspect vanished or unreadable, no valid reading, infinite grace, no list",
        },
        _B.ABSENT: {_B.LATE: "the watch finds the twin"},
        _B.REJECTED: {_B.LATE: "the watch finds the twin"},
        _B.LATE: {
            _B.COLLECTED: "every line settled or booked",
            _B.HELD: "inconsistent",
            _B.UNRECOVERABLE: "29 days",
        },
        _B.LIVE: {
            _B.ENDED: "the provider says ended",
            _B.HELD: "404 for 24 hours, or more than an hour past its expiry",
        },
        _B.ENDED: {
            _B.COLLECTED: "lines = counts = members",
            _B.HELD: "three complete, inconsistent readings",
            _B.UNRECOVERABLE: "29 days",
        },
        _B.HELD: {
            _B.DOUBTFUL: "look again (from doubtful), or adopt(id)",
            _B.LIVE: "look again (from live)",
            _B.ENDED: "look again (from ended)",
            _B.LATE: "look again (from late)",
            _B.COLLECTED: "accept_missing() (from ended or late)",
            _B.ABSENT: "declare_absent() (from doubtful)",
            _B.UNRECOVERABLE: "give_up() (from live, ended or late)",
        },
        _B.COLLECTED: {},
        _B.UNRECOVERABLE: {},
    }
)

_HELD_EXITS: Final[Mapping[BatchState, frozenset[BatchState]]] = MappingProxyType(
    {
        _B.DOUBTFUL: frozenset({_B.DOUBTFUL, _B.ABSENT}),
        _B.LIVE: frozenset({_B.LIVE, _B.UNRECOVERABLE}),
        _B.ENDED: frozenset({_B.ENDED, _B.COLLECTED, _B.UNRECOVERABLE}),
        _B.LATE: frozenset({_B.LATE, _B.COLLECTED, _B.UNRECOVERABLE}),
    }
)

RUN_TRANSITIONS: Final[Mapping[RunState, Mapping[RunState, str]]] = MappingProxyType(
    {
        RunState.FREEZING: {RunState.OPEN: "seal accepted"},
        RunState.OPEN: {
            RunState.PAUSED: "pause, money, breaker, canary, refused create",
            RunState.CANCELING: "cancel",
            RunState.CLOSED: "nothing pending or submitted",
        },
        RunState.PAUSED: {
            RunState.OPEN: "unpause, cap raised",
            RunState.CANCELING: "cancel",
            RunState.CLOSED: "nothing pending or submitted",
        },
        RunState.CANCELING: {RunState.CLOSED: "nothing pending or submitted"},
        RunState.CLOSED: {
            RunState.CLOSED: "a person's answer or a late twin: receipt n + 1",
            RunState.OPEN: "a row sent back to a tier",
        },
    }
)

UNRESOLVED: Final = frozenset({BatchState.INTENT, BatchState.SENDING, BatchState.DOUBTFUL})
"""At most one batch per store and place may be here, or HELD coming from DOUBTFUL."""


def after(state: RowState | None, event: RowEvent) -> RowState:
    """Give the state a row is in after an event.

    Raises:
        IllegalTransition: the table does not list this event for this state.
    """
    origin, to = ROW_TRANSITIONS[event]
    if origin is not state:
        raise IllegalTransition(
            f"row: {event.value!r} is not possible in state {state.value if state else 'none'!r}"
        )
    return to


def check_batch(state: BatchState, to: BatchState, *, held_from: BatchState | None = None) -> None:
    """Make sure that a batch may go from ``state`` to ``to``.

    Raises:
        IllegalTransition: the table does not list this edge.
    """
    legal = to in BATCH_TRANSITIONS[state]
    if legal and state is BatchState.HELD and held_from is not None:
        legal = to in _HELD_EXITS[held_from]
    if not legal:
        origin = f" (held from {held_from.value})" if held_from else ""
        raise IllegalTransition(f"batch: no way from {state.value!r}{origin} to {to.value!r}")


def check_run(state: RunState, to: RunState) -> None:
    """Make sure that a run may go from ``state`` to ``to``.

    Raises:
        IllegalTransition: the table does not list this edge.
    """
    if to not in RUN_TRANSITIONS[state]:
        raise IllegalTransition(f"run: no way from {state.value!r} to {to.value!r}")


_OUTCOMES: Final[Mapping[RowState, Outcome]] = MappingProxyType(
    {
        RowState.PENDING: Outcome.OPEN,
        RowState.SUBMITTED: Outcome.OPEN,
        RowState.SUCCEEDED: Outcome.SUCCEEDED,
        RowState.HUMAN: Outcome.HUMAN_QUEUED,
        RowState.CANCELED: Outcome.CANCELED,
        RowState.UNCHANGED: Outcome.UNCHANGED,
    }
)


def outcome(state: RowState, reason: Reason | None) -> Outcome:
    """Give the bucket of a row: a function of its state and reason, never stored."""
    if state is not RowState.QUARANTINED:
        return _OUTCOMES[state]
    if reason is Reason.BATCH_EXPIRED:
        return Outcome.EXPIRED
    if reason is not None and reason.family == "api":
        return Outcome.ERRORED
    return Outcome.QUARANTINED
