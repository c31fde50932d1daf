"""What a run cost: by model, tier and what became of the answers. Every cent stands in exactly one line."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from batchkit.equations import answered_tier, use_of
from batchkit.files import write_table
from batchkit.model import NANO, BatchWhere, Run, Usage
from batchkit.printing import decimals
from batchkit.storage import Store
from batchkit.watch import twins_of

if TYPE_CHECKING:
    import pandas

_COLUMNS = (
    "model",
    "tier",
    "use",
    "verdict",
    "answers",
    "input_tokens",
    "output_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "cost_usd",
)


@attrs.frozen(kw_only=True)
class BillLine:
    """Answers of one model and tier that were used in one way. ``cost`` is in nano-dollars."""

    model: str
    tier: int
    use: str
    verdict: str
    answers: int
    usage: Usage
    cost: int

    def flat(self) -> dict[str, object]:
        """Give the line as one mapping, its cost in US dollars."""
        counts = (self.model, self.tier, self.use, self.verdict, self.answers, *self.usage)
        return dict(zip(_COLUMNS, (*counts, str(Decimal(self.cost) / NANO)), strict=True))


@attrs.frozen(kw_only=True)
class Bill:
    """The lines of one run's bill, dearest first."""

    run: str
    lines: tuple[BillLine, ...]

    @classmethod
    def of(cls, store: Store, run: Run) -> Bill:
        """Sum the bill of a run from its results. One scan."""
        sums: dict[tuple[str, int, str, str], list[int]] = {}
        for line in store.ledger(run.id):
            if line.usage is None:
                continue
            verdict = line.verdict.value if line.verdict else "valid"
            entry = sums.setdefault((line.model, answered_tier(line), use_of(line), verdict), [0] * 7)
            for at, amount in enumerate((line.results, *line.usage, line.cost)):
                entry[at] += amount
        for batch in store.batches(BatchWhere(run=run.id)):
            for share in (share for twin in twins_of(batch) for share in twin.shares if twin.read_at):
                if not any(share.usage):
                    continue
                key = (share.model, share.tier, share.use, share.verdict or "not judged")
                entry = sums.setdefault(key, [0] * 7)
                for at, amount in enumerate((share.lines, *share.usage, share.cost)):
                    entry[at] += amount
        lines = [
            BillLine(
                model=model,
                tier=tier,
                use=use,
                verdict=verdict,
                answers=n[0],
                usage=Usage(*n[1:6]),
                cost=n[6],
            )
            for (model, tier, use, verdict), n in sums.items()
        ]
        return cls(run=run.name, lines=tuple(sorted(lines, key=lambda line: -line.cost)))

    @property
    def total_usd(self) -> Decimal:
        """Give the sum of all lines, in US dollars."""
        return Decimal(sum(line.cost for line in self.lines)) / NANO

    def write(self, path: str | os.PathLike[str]) -> int:
        """Write the lines as ``.csv`` or ``.jsonl`` and give their number."""
        return write_table(path, _COLUMNS, (line.flat() for line in self.lines))

    def to_pandas(self) -> pandas.DataFrame:
        """Give the lines as a pandas frame. Needs pandas."""
        import pandas

        return pandas.DataFrame([line.flat() for line in self.lines], columns=list(_COLUMNS))

    def __str__(self) -> str:
        """Give the bill as aligned text, every amount with as many decimals as the finest needs."""
        costs = [Decimal(line.cost) / NANO for line in self.lines]
        places = max([4, *map(decimals, costs)])
        rows = [
            f"  {line.model:<24} tier {line.tier}  {line.use:<12} {line.verdict:<22} {line.answers:>9,}  "
            f"${cost:>{places + 6},.{places}f}"
            for line, cost in zip(self.lines, costs, strict=True)
        ]
        return "\n".join([f"Bill of {self.run}: ${self.total_usd:,.{places}f}", *rows])
