"""The rows of a run, counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from batchkit.reasons import Reason
from batchkit.states import Outcome, RowState, outcome


@attrs.frozen(kw_only=True)
class Tally:
    """Rows of one run counted by (state, reason, tier)."""

    counts: Mapping[tuple[RowState, Reason | None, int], int]

    @property
    def total(self) -> int:
        """Count every source record of the run."""
        return sum(self.counts.values())

    @property
    def outcomes(self) -> dict[Outcome, int]:
        """Count the rows of each bucket; every bucket is present."""
        buckets = dict.fromkeys(Outcome, 0)
        for (state, reason, _), n in self.counts.items():
            buckets[outcome(state, reason)] += n
        return buckets

    @property
    def open(self) -> int:
        """Count the rows that are not closed: pending or submitted."""
        return self.in_state(RowState.PENDING) + self.in_state(RowState.SUBMITTED)

    def in_state(self, state: RowState) -> int:
        """Count the rows in one state."""
        return sum(n for (s, _, _), n in self.counts.items() if s is state)

    def reasons(self) -> Iterator[tuple[Outcome, Reason, int, int]]:
        """Give (outcome, reason, tier, rows) for every row that carries a reason."""
        for (state, reason, tier), n in self.counts.items():
            if reason is not None:
                yield outcome(state, reason), reason, tier, n
