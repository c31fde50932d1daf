"""What a pass reports: a value that says where the run stands, what it waits for, and until when."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import attrs

from batchkit.ids import Digest
from batchkit.model import NANO, Need, Tally
from batchkit.printing import dollars, printable
from batchkit.states import Outcome, RunState

ProgressState: TypeAlias = Literal["freezing", "sending", "waiting", "paused", "held", "canceling", "done"]

EXIT_DONE = 0
EXIT_BROKEN = 1
EXIT_PERSON = 3
EXIT_MONEY = 4
EXIT_NOT_YET = 75

_ORDER: Final = (
    Outcome.SUCCEEDED,
    Outcome.UNCHANGED,
    Outcome.ERRORED,
    Outcome.EXPIRED,
    Outcome.CANCELED,
    Outcome.QUARANTINED,
    Outcome.HUMAN_QUEUED,
    Outcome.OPEN,
)
_ALWAYS: Final = frozenset({Outcome.SUCCEEDED, Outcome.HUMAN_QUEUED, Outcome.QUARANTINED, Outcome.OPEN})
_EXITS: Final[Mapping[str, int]] = MappingProxyType(
    {"person": EXIT_PERSON, "operator": EXIT_PERSON, "money": EXIT_MONEY}
)


@attrs.frozen(kw_only=True)
class Lockmark:
    """What the run's spec was accepted by: shown beside every progress. ``by`` empty: nobody accepted it."""

    spec: Digest
    by: str = ""
    rows: int = 0
    share: float | None = None

    def __str__(self) -> str:
        """Give it as one phrase."""
        if not self.by:
            return f"spec {self.spec[:6]} · not locked"
        share = f", {self.share:.0%}" if self.share is not None else ""
        return f"lock {self.spec[:6]} ({self.by}, {self.rows} rows{share})"


@attrs.frozen(kw_only=True)
class Progress:
    """Where a run stands after a pass.

    ``moved`` tells whether this pass changed anything; ``wake_at`` (epoch seconds) is when the next
    pass may find something to do, None when only a person can change anything. ``batches_*`` count
    the batches that run at the provider; there is no per-row progress in the API before a batch ends.
    ``where`` is the store's path or address, as far as it is known.
    """

    name: str
    state: ProgressState
    run_state: RunState
    moved: bool
    wake_at: float | None
    rows: int
    tally: Tally
    spent: int
    reserved: int
    cap: int | None
    needs: tuple[Need, ...]
    lock: Lockmark
    batches_ended: int
    batches_running: int
    batches_doubtful: int
    oldest_sent_at: float | None
    hard_end_at: float | None
    now: float
    where: str = ""

    @property
    def done(self) -> bool:
        """Tell whether every row is closed; rows that wait for a person do not count as open."""
        return self.state == "done"

    @property
    def balanced(self) -> bool:
        """Tell whether the buckets, open ones included, sum to the source count."""
        return self.tally.total == self.rows

    @property
    def spent_usd(self) -> Decimal:
        """Give what this run's answers cost, in US dollars."""
        return Decimal(self.spent) / NANO

    @property
    def reserved_usd(self) -> Decimal:
        """Give the worst case of what is still out, in US dollars."""
        return Decimal(self.reserved) / NANO

    @property
    def exit_code(self) -> int:
        """Give the process exit code: 0 done, 75 not yet, 3 a person is needed, 4 money."""
        if self.done:
            return EXIT_DONE
        for need in sorted(self.needs, key=lambda n: n.who != "money"):
            return _EXITS[need.who]
        return EXIT_NOT_YET

    @property
    def equation(self) -> str:
        """Give the row equation as text; it ends in a tick only where it balances exactly."""
        counts = self.tally.outcomes
        parts = [
            f"{o.value.replace('_queued', '')} {counts[o]:,}" for o in _ORDER if counts[o] or o in _ALWAYS
        ]
        tick = "✓" if self.balanced else f"✗ (source has {self.rows:,})"
        return f"{' + '.join(parts)} = {self.tally.total:,} rows {tick}"

    def to_dict(self) -> dict[str, object]:
        """Give everything as JSON-able values; amounts are decimal strings in US dollars."""
        return {
            "run": self.name,
            "state": self.state,
            "run_state": self.run_state.value,
            "done": self.done,
            "moved": self.moved,
            "wake_at": self.wake_at,
            "rows": self.rows,
            "balanced": self.balanced,
            "outcomes": {o.value: n for o, n in self.tally.outcomes.items()},
            "reasons": [
                {"outcome": o.value, "reason": r.value, "tier": t, "rows": n}
                for o, r, t, n in self.tally.reasons()
            ],
            "spent_usd": str(self.spent_usd),
            "reserved_usd": str(self.reserved_usd),
            "cap_usd": None if self.cap is None else str(Decimal(self.cap) / NANO),
            "batches": {
                "ended": self.batches_ended,
                "running": self.batches_running,
                "doubtful": self.batches_doubtful,
                "oldest_sent_at": self.oldest_sent_at,
                "hard_end_at": self.hard_end_at,
            },
            "needs": [attrs.asdict(need) for need in self.needs],
            "lock": {
                "spec": self.lock.spec,
                "by": self.lock.by,
                "rows": self.lock.rows,
                "share": self.lock.share,
            },
            "exit_code": self.exit_code,
        }

    def lines(self) -> list[str]:
        """Give the progress as lines for people."""
        head = f"Run {self.name} · {self.state} · {self.rows:,} rows · {self.lock}"
        running = f"{self.batches_running} running"
        if self.batches_running and self.oldest_sent_at is not None:
            running += f" (oldest {_minutes(self.now - self.oldest_sent_at)}"
            running += f", hard end in {_minutes(self.hard_end_at - self.now)})" if self.hard_end_at else ")"
        doubtful = f", {self.batches_doubtful} in doubt" if self.batches_doubtful else ""
        cap = "" if self.cap is None else f" of {dollars(Decimal(self.cap) / NANO)}"
        money = f"{dollars(self.spent_usd)} spent + {dollars(self.reserved_usd)} reserved{cap}"
        wake = ""
        if self.wake_at is not None and not self.done:
            wake = f" · next look {datetime.fromtimestamp(self.wake_at, timezone.utc):%H:%M} UTC"
        body = [
            head,
            f"  {self.equation}",
            f"  batches {self.batches_ended} ended, {running}{doubtful} · {money}{wake}",
        ]
        for need in self.needs:
            body += [f"  {need.who} needed: {need.why}", f"  → {need.fix}"]
        if self.where and not self.needs and not self.done:
            body.append(f"  → python -m batchkit status {shlex.quote(self.where)} {shlex.quote(self.name)}")
        return [printable(line) for line in body]

    def __str__(self) -> str:
        """Give the lines as one text."""
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _minutes(seconds: float) -> str:
    minutes = max(0, int(seconds // 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
