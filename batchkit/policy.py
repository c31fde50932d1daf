"""What happens to a row that did not succeed: a ladder of steps per reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, TypeAlias

import attrs
from attrs.validators import gt, instance_of
from typing_extensions import Self

from batchkit.errors import UsageError
from batchkit.fixes import meant
from batchkit.reasons import Reason

_LIMIT: Final = 20
"""The most times one step may repeat: every ladder ends."""


def _times(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LIMIT:
        raise UsageError(f"times is a whole number from 1 to {_LIMIT}, not {value!r}")


@attrs.frozen(kw_only=True)
class Resend:
    """Send the same request again; uses no attempt."""

    times: int = attrs.field(default=3, validator=_times)
    name: ClassVar[str] = "resend"


@attrs.frozen(kw_only=True)
class Retry:
    """Ask the same tier again; uses an attempt.

    ``max_tokens`` multiplies the tier's cap; ``show_error`` tells the model what was wrong with its answer.
    """

    times: int = attrs.field(default=1, validator=_times)
    max_tokens: float = attrs.field(default=1.0, converter=float, validator=gt(0))
    show_error: bool = attrs.field(default=False, validator=instance_of(bool))
    name: ClassVar[str] = "retry"


@attrs.frozen(kw_only=True)
class Escalate:
    """Ask the next tier."""

    name: ClassVar[str] = "escalate"


@attrs.frozen(kw_only=True)
class ToHuman:
    """Put the row into the human queue."""

    name: ClassVar[str] = "human"


@attrs.frozen(kw_only=True)
class Quarantine:
    """Close the row with its reason."""

    name: ClassVar[str] = "quarantine"


@attrs.frozen(kw_only=True)
class Pause:
    """Stop sending; the row stays pending, untouched."""

    name: ClassVar[str] = "pause"


Step: TypeAlias = "Resend | Retry | Escalate | ToHuman | Quarantine | Pause"
Ladder: TypeAlias = "tuple[Step, ...]"

_STEPS: Final[Mapping[str, type[Any]]] = {
    step.name: step for step in (Resend, Retry, Escalate, ToHuman, Quarantine, Pause)
}
_LAST: Final = (ToHuman, Quarantine, Pause)


def resend(times: int = 3) -> Resend:
    """Send the same request again, at most ``times``; uses no attempt."""
    return Resend(times=times)


def retry(times: int = 1, *, max_tokens: float = 1.0, show_error: bool = False) -> Retry:
    """Ask the same tier again, at most ``times``.

    Args:
        times: Attempts that this step may use at one tier.
        max_tokens: Factor on the tier's cap, for answers that were cut off.
        show_error: Tell the model what was wrong with its answer.
    """
    return Retry(times=times, max_tokens=max_tokens, show_error=show_error)


def escalate() -> Escalate:
    """Ask the next tier; where there is none, the ladder goes on with its last step."""
    return Escalate()


def human() -> ToHuman:
    """Put the row into the human queue."""
    return ToHuman()


def quarantine() -> Quarantine:
    """Close the row with its reason."""
    return Quarantine()


def pause() -> Pause:
    """Stop sending until somebody unpauses the run; the row stays pending, untouched."""
    return Pause()


ROUTED: Final[tuple[Reason, ...]] = (
    *(reason for reason in Reason if reason.family == "api"),
    Reason.BATCH_EXPIRED,
    Reason.BATCH_CANCELED,
    Reason.BATCH_MISSING_RESULT,
    Reason.BATCH_UNREADABLE_LINE,
    *(reason for reason in Reason if reason.family == "output"),
)
"""The reasons that a ladder decides about, in the order in which :meth:`Policy.explain` lists them."""


def _check_ladder(glob: str, ladder: Ladder) -> None:
    for step in ladder:
        if not isinstance(step, tuple(_STEPS.values())):
            raise UsageError(f"{glob!r}: {step!r} is no step; call one, such as escalate() or quarantine()")
    if not ladder or not isinstance(ladder[-1], _LAST):
        raise UsageError(f"the ladder of {glob!r} must end in human(), quarantine() or pause()")
    if any(isinstance(step, _LAST) for step in ladder[:-1]):
        raise UsageError(
            f"the ladder of {glob!r} goes on after human(), quarantine() or pause(), which end it"
        )
    asked = [step for step in ladder if isinstance(step, Escalate)]
    if asked and (len(asked) > 1 or not isinstance(ladder[-2], Escalate)):
        raise UsageError(
            f"the ladder of {glob!r} is read anew at every tier: escalate() stands once, just before the last step"
        )


def _specificity(glob: str) -> tuple[int, int]:
    wild = sum(glob.count(mark) for mark in "*?[")
    return -wild, len(glob)


def _resolved(policy: Policy) -> Mapping[Reason, Ladder]:
    table: dict[Reason, Ladder] = {}
    for reason in ROUTED:
        matching = [
            (_specificity(glob), n, ladder)
            for n, (glob, ladder) in enumerate(policy.ladders)
            if reason.matches(glob)
        ]
        table[reason] = max(matching)[2] if matching else (Quarantine(),)
    return table


@attrs.frozen
class Policy:
    """A value: which ladder the rows of each reason climb. Change it with :meth:`on`, read it with :meth:`explain`.

    Of the globs that match a reason the most specific wins: fewest wildcards, then the longest. Of two that are
    equally specific the later one wins.

    Attributes:
        ladders: Pairs of glob and ladder, in the order they were given. The first is ``"*"``.
    """

    ladders: tuple[tuple[str, Ladder], ...] = attrs.field(default=(("*", (Quarantine(),)),))
    table: Mapping[Reason, Ladder] = attrs.field(
        init=False, repr=False, eq=False, default=attrs.Factory(_resolved, takes_self=True)
    )
    """The ladder of each reason in :data:`ROUTED`."""

    @classmethod
    def default(cls) -> Policy:
        """Give the ladders that suit most work; see :meth:`explain`."""
        return _DEFAULT

    def on(self, glob: str, *steps: Step) -> Self:
        """Give a copy in which the reasons that match ``glob`` climb these steps.

        Raises:
            UsageError: the glob matches no reason, or the steps do not end.
        """
        _check_ladder(glob, steps)
        if not any(reason.matches(glob) for reason in ROUTED):
            hint = meant(glob, [reason.value for reason in ROUTED])
            raise UsageError(f"no reason that a policy decides about matches {glob!r}.{hint}")
        kept = tuple(pair for pair in self.ladders if pair[0] != glob)
        return attrs.evolve(self, ladders=(*kept, (glob, steps)))

    def ladder(self, reason: Reason) -> Ladder:
        """Give the steps for a reason."""
        return self.table.get(reason, (Quarantine(),))

    def step(self, reason: Reason | None, tries: int) -> Retry | None:
        """Give the retry under which the next request of a pending row runs, or None for a plain request.

        Args:
            reason: Why its latest judged answer was not accepted.
            tries: Judged answers at its tier so far.
        """
        if reason is None or tries < 1:
            return None
        return next((s for s in self.ladder(reason) if isinstance(s, Retry) and tries <= s.times), None)

    def explain(self) -> str:
        """Give the whole table as text, one reason a line."""
        width = max(len(reason.value) for reason in ROUTED)
        lines = [
            f"{reason.value:<{width}}  {' → '.join(map(_text, self.table[reason]))}" for reason in ROUTED
        ]
        return "\n".join(lines)

    def document(self) -> list[Any]:
        """Give the JSON-able form."""
        return [
            [glob, [{"step": s.name, **attrs.asdict(s)} for s in ladder]] for glob, ladder in self.ladders
        ]

    @classmethod
    def load(cls, document: Sequence[Any]) -> Self:
        """Make the policy that :meth:`document` described."""
        return cls(tuple((glob, tuple(_load(step) for step in steps)) for glob, steps in document))


def _load(step: Mapping[str, Any]) -> Step:
    made: Step = _STEPS[step["step"]](**{name: value for name, value in step.items() if name != "step"})
    return made


def _text(step: Step) -> str:
    if isinstance(step, Resend):
        return f"resend up to {step.times} times"
    if isinstance(step, Retry):
        extras = [f"max_tokens × {step.max_tokens:g}"] * (step.max_tokens != 1.0) + [
            "error shown"
        ] * step.show_error
        return f"retry {step.times} ×" + (f" ({', '.join(extras)})" if extras else "")
    return {"escalate": "next tier", "human": "human queue"}.get(step.name, step.name)


def _default() -> Policy:
    policy = Policy()
    for code in (
        "batch.expired",
        "batch.canceled",
        "api.overloaded",
        "api.rate_limit",
        "api.timeout",
        "api.server",
    ):
        policy = policy.on(code, Resend(), Quarantine())
    for code in ("api.authentication", "api.permission", "api.not_found", "api.billing", "api.credit"):
        policy = policy.on(code, Pause())
    for code in ("output.unparseable", "output.empty"):
        policy = policy.on(code, Retry(), Escalate(), Quarantine())
    policy = policy.on("output.truncated", Retry(max_tokens=2.0), Escalate(), Quarantine())
    for code in ("output.schema", "output.rule"):
        policy = policy.on(code, Escalate(), Quarantine())
    for code in ("output.refused", "output.sparse"):
        policy = policy.on(code, ToHuman())
    return policy


_DEFAULT: Final = _default()
