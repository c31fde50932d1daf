"""How rows stand after a verdict, decided once for all that stand alike and are told the same."""

from __future__ import annotations

from batchkit.escalator import Disposition, Escalator
from batchkit.manifest import Standing
from batchkit.reasons import Reason
from batchkit.states import RowEvent

__all__ = ["After", "Afterwards"]

After = tuple[RowEvent, "Reason | None", int, int, int]
"""What happens to a row, and its reason, tier, tries and resends afterwards."""


class Afterwards:
    """Asks the escalator, and remembers what it said: most lines of a file say the same."""

    def __init__(self, escalator: Escalator, *, canceling: bool) -> None:
        """Decide by this escalator, for a run that is being canceled or not."""
        self._escalator = escalator
        self._canceling = canceling
        self._decided: dict[tuple[Reason | None, Standing], After] = {}

    def of(self, said: Reason | None, standing: Standing) -> After:
        """Give what becomes of a row that stands so when its line says this; None is valid."""
        known = self._decided.get((said, standing))
        if known is not None:
            return known
        tier, tries, resends, _ = standing
        done = self._escalator.decide(
            said, tier=tier, tries=tries, resends=resends, canceling=self._canceling
        )
        after = self._decided[said, standing] = _values(done, standing)
        return after

    def unfinished(self, standing: Standing) -> After:
        """Give what becomes of a row whose line could not be judged, because our own code is wrong."""
        tier, tries, resends, _ = standing
        done = Disposition(
            event=RowEvent.QUARANTINED,
            reason=Reason.OUTPUT_RULE,
            tier=tier,
            tries=tries + 1,
            resends=resends,
        )
        return _values(done, standing)


def _values(done: Disposition, standing: Standing) -> After:
    reason = standing[3] if done.keep_reason else done.reason
    return (done.event, reason, done.tier, done.tries, done.resends)
