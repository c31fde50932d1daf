"""What to do with a row after a verdict: the policy's ladders as one table."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import attrs
from typing_extensions import assert_never

from batchkit.policy import Escalate, Pause, Policy, Quarantine, Resend, Retry, Step, ToHuman
from batchkit.reasons import Reason
from batchkit.spec import Rendering
from batchkit.states import RowEvent


@attrs.frozen(kw_only=True)
class Disposition:
    """What happens to a row, and its values afterwards.

    Attributes:
        event: For :data:`batchkit.states.ROW_TRANSITIONS`.
        reason: The row's reason after the event; meaningless while ``keep_reason``.
        tier: Counted from 0.
        tries: Judged answers at that tier.
        resends: Times the row was sent again at that tier without an answer to judge.
        step: The step of the ladder that was taken; None where no ladder was asked.
        keep_reason: The row keeps the reason it had: what it was last judged for decides how it is asked again.
    """

    event: RowEvent
    reason: Reason | None
    tier: int
    tries: int
    resends: int
    step: Step | None = None
    keep_reason: bool = False


class Escalator:
    """Decides by the spec's policy. Pure: the same question has the same answer, and answers are remembered.

    Args:
        spec: Its policy, and how many tiers there are.
    """

    def __init__(self, spec: Rendering) -> None:
        self._policy: Policy = spec.policy
        self._tiers = len(spec.tiers)
        self._decide = lru_cache(maxsize=4096)(self._decided)

    def decide(
        self, reason: Reason | None, *, tier: int, tries: int, resends: int, canceling: bool = False
    ) -> Disposition:
        """Give what happens to a row that was sent and came back.

        Args:
            reason: What the verdict says; None is valid.
            tier: The row's tier, counted from 0.
            tries: Judged answers at that tier before this one.
            resends: Resends at that tier before this one.
            canceling: Whether the run is being canceled, so that a canceled line was asked for.
        """
        return self._decide(reason, tier, tries, resends, canceling)

    def _decided(
        self, reason: Reason | None, tier: int, tries: int, resends: int, canceling: bool
    ) -> Disposition:
        judged = tries + (reason is None or reason.family == "output")
        values: dict[str, Any] = {"reason": reason, "tier": tier, "tries": judged, "resends": resends}
        if reason is None:
            return Disposition(event=RowEvent.ACCEPTED, **values)
        if canceling and reason is Reason.BATCH_CANCELED:
            return Disposition(event=RowEvent.LINE_CANCELED, **values)
        for step in self._policy.ladder(reason):
            match step:
                case Resend():
                    if resends < step.times:
                        again = {**values, "tries": tries, "resends": resends + 1}
                        return Disposition(event=RowEvent.RESENT, step=step, keep_reason=True, **again)
                case Retry():
                    if tries + 1 <= step.times:
                        return Disposition(
                            event=RowEvent.RETRIED, step=step, **{**values, "tries": tries + 1}
                        )
                case Escalate():
                    if tier + 1 < self._tiers:
                        up = {**values, "tier": tier + 1, "tries": 0, "resends": 0}
                        return Disposition(event=RowEvent.ESCALATED, step=step, **up)
                case ToHuman():
                    return Disposition(event=RowEvent.TO_HUMAN, step=step, **values)
                case Quarantine():
                    return Disposition(event=RowEvent.QUARANTINED, step=step, **values)
                case Pause():
                    still = {**values, "tries": tries}
                    return Disposition(event=RowEvent.MONEY_PAUSED, step=step, keep_reason=True, **still)
                case _:
                    assert_never(step)
        raise AssertionError("a ladder ends in human, quarantine or pause")
