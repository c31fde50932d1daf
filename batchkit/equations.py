"""The four equations, counted from the store: rows, submissions, promotion, money. Exact, never rounded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from batchkit.model import Batch, BatchWhere, DocKind, LedgerLine, Run, Tally
from batchkit.standing import scope_of
from batchkit.states import BatchState, RowEvent, RowState
from batchkit.storage import Store
from batchkit.watch import twins_of, was_late

NEVER_SENT: Final = frozenset({BatchState.REJECTED, BatchState.ABSENT})
"""Batches that the provider never had: their rows were freed, and count where they went next."""

_NO_LINE: Final = frozenset({RowEvent.MISSING_ACCEPTED, RowEvent.RESULTS_GONE})


@attrs.frozen(kw_only=True)
class RowSum:
    """Source records = succeeded + errored + expired + canceled + quarantined + human_queued + unchanged + open."""

    source: int
    buckets: Mapping[str, int]

    @property
    def holds(self) -> bool:
        """Tell whether both sides are equal."""
        return sum(self.buckets.values()) == self.source

    def __str__(self) -> str:
        """Give the equation as text."""
        shown = {name: n for name, n in self.buckets.items() if n or name in {"succeeded", "quarantined"}}
        total = sum(shown.values())
        return (
            " + ".join(f"{name} {n:,}" for name, n in shown.items())
            + f" = {total:,} of {self.source:,} source records"
        )


@attrs.frozen(kw_only=True)
class SubmissionSum:
    """Requests in batches that were sent = lines read + still in flight + declared missing."""

    sent: int
    lines: int
    in_flight: int
    missing: int

    @property
    def holds(self) -> bool:
        """Tell whether both sides are equal."""
        return self.sent == self.lines + self.in_flight + self.missing

    def __str__(self) -> str:
        """Give the equation as text."""
        return (
            f"sent {self.sent:,} = lines read {self.lines:,} + in flight {self.in_flight:,} "
            f"+ declared missing {self.missing:,}"
        )


@attrs.frozen(kw_only=True)
class PromotionSum:
    """One promotion: staged = written + unchanged + conflict + absent in the catalog + held back.

    ``rolled_back`` is what was known when the promotion was noted; the catalog's own table is the truth.
    """

    id: str
    target: str
    rolled_back: bool
    staged: int
    written: int
    unchanged: int
    conflict: int
    absent: int
    held_back: int

    @property
    def holds(self) -> bool:
        """Tell whether both sides are equal."""
        return self.staged == self.written + self.unchanged + self.conflict + self.absent + self.held_back

    def __str__(self) -> str:
        """Give the equation as text."""
        return (
            f"staged {self.staged:,} = written {self.written:,} + unchanged {self.unchanged:,} + conflict "
            f"{self.conflict:,} + absent in the catalog {self.absent:,} + held back {self.held_back:,}"
        )


@attrs.frozen(kw_only=True)
class MoneySum:
    """All usage = spent on applied answers + on answers not accepted + on duplicates + on unused answers.

    ``usage`` is summed over results, ``batches`` over the batches' own counters: two records of the same
    spend, which must agree. Nano-dollars.
    """

    usage: int
    batches: int
    applied: int
    not_accepted: int
    duplicate: int
    unused: int
    reserved: int

    @property
    def holds(self) -> bool:
        """Tell whether both sides are equal, and both records of the spend agree."""
        return self.usage == self.applied + self.not_accepted + self.duplicate + self.unused == self.batches

    def __str__(self) -> str:
        """Give the equation as text, in US dollars."""
        return (
            f"usage ${self.usage / 1e9:,.6f} = applied ${self.applied / 1e9:,.6f} + not accepted "
            f"${self.not_accepted / 1e9:,.6f} + duplicate ${self.duplicate / 1e9:,.6f} + unused "
            f"${self.unused / 1e9:,.6f}"
        )


@attrs.frozen(kw_only=True)
class Equations:
    """All four, as counted at one moment."""

    rows: RowSum
    submissions: SubmissionSum
    promotions: tuple[PromotionSum, ...]
    money: MoneySum

    @property
    def hold(self) -> bool:
        """Tell whether every equation holds."""
        return (
            self.rows.holds
            and self.submissions.holds
            and self.money.holds
            and all(promotion.holds for promotion in self.promotions)
        )

    def to_dict(self) -> dict[str, object]:
        """Give them as JSON-able values."""
        return attrs.asdict(self)


def count(store: Store, run: Run, *, tally: Tally) -> Equations:
    """Count everything else anew: one scan of the results.

    Args:
        store: where the run is.
        run: the run.
        tally: its rows, as counted by the caller at the same moment.
    """
    batches = store.batches(BatchWhere(run=run.id))
    submissions, money = _from_results(store, run, batches, tally.in_state(RowState.SUBMITTED))
    return Equations(
        rows=RowSum(source=run.rows, buckets={outcome.value: n for outcome, n in tally.outcomes.items()}),
        submissions=submissions,
        promotions=tuple(_promotions(store, run)),
        money=money,
    )


def _from_results(
    store: Store, run: Run, batches: Sequence[Batch], submitted: int
) -> tuple[SubmissionSum, MoneySum]:
    twins = _Twins.of(batches)
    lines, missing = twins.lines, twins.missing
    spent = {"applied": 0, "not_accepted": 0, **twins.spent}
    for line in store.ledger(run.id):
        if line.batch is not None:
            lines += line.results * (line.event not in _NO_LINE)
            missing += line.results * (line.event in _NO_LINE)
        spent[use_of(line)] += line.cost
    return (
        SubmissionSum(
            sent=sum(b.count for b in batches if b.state not in NEVER_SENT) + twins.extra,
            lines=lines,
            in_flight=submitted + twins.in_flight,
            missing=missing,
        ),
        MoneySum(
            usage=sum(spent.values()),
            batches=sum(b.spent for b in batches),
            reserved=sum(b.reserved for b in batches),
            **spent,
        ),
    )


@attrs.frozen(kw_only=True)
class _Twins:
    """What second remote batches of one create add to the sums: their lines changed no row, so no result tells."""

    extra: int
    lines: int
    in_flight: int
    missing: int
    spent: Mapping[str, int]

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> _Twins:
        """Sum them over the batches of a run."""
        extra = lines = in_flight = missing = 0
        spent = {"duplicate": 0, "unused": 0}
        for batch in batches:
            for twin in twins_of(batch):
                own = was_late(batch) and twin.remote_id == batch.remote_id
                extra += 0 if own else batch.count
                if own and batch.state is BatchState.UNRECOVERABLE:
                    missing += batch.count - batch.lines
                elif twin.read_at is None:
                    in_flight += batch.count - (batch.lines if own else 0)
                else:
                    lines += twin.lines - twin.applied
                    missing += batch.count - twin.lines
                    for share in twin.shares:
                        spent[share.use] += share.cost
        return cls(extra=extra, lines=lines, in_flight=in_flight, missing=missing, spent=spent)


def use_of(line: LedgerLine) -> str:
    """Tell what answers were used for: applied, not_accepted or unused."""
    if line.stands:
        return "applied"
    if line.event is RowEvent.LINE_CANCELED:
        return "unused"
    return "not_accepted"


def answered_tier(line: LedgerLine) -> int:
    """Give the tier that answered: a row that was escalated stands one tier higher afterwards."""
    return line.tier - (line.event is RowEvent.ESCALATED)


def _promotions(store: Store, run: Run) -> Iterator[PromotionSum]:
    """Give each promotion once, as it was noted last: one may be noted again after it was rolled back."""
    newest: dict[tuple[str, str], PromotionSum] = {}
    for _, body in store.docs(DocKind.PROMOTION, scope=scope_of(run.id)):
        note = json.loads(body)
        counts = ("staged", "written", "unchanged", "conflict", "absent", "held_back")
        promotion = PromotionSum(
            id=str(note["id"]),
            target=str(note.get("target", "")),
            rolled_back=note.get("rolled_back_at") is not None,
            **{name: int(note[name]) for name in counts},
        )
        newest[promotion.target, promotion.id] = promotion
    yield from newest.values()
