"""What a run would cost and how long it may take: expected, and the worst that the cap must bear."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import attrs

from batchkit import source
from batchkit.builder import RequestBuilder
from batchkit.ids import RowId, RowKey
from batchkit.model import NANO, OnDuplicate, RowView, SourceRow
from batchkit.money import expected, known_price, worst_case
from batchkit.prices import Price
from batchkit.printing import counted, dollars
from batchkit.reasons import Reason
from batchkit.repeats import check_on_duplicate, meeting, set_aside
from batchkit.rows import Rows
from batchkit.source import Freezer
from batchkit.spec import Spec
from batchkit.states import RowEvent, RowState

FIRST_TIER_FAILS: Final = 0.05
"""Share of answers assumed to fail at a tier, where no pilot says better."""

ANSWER_SHARE: Final = 0.3
"""Share of ``max_tokens`` assumed for a usual answer, where no pilot says better."""

HOURS_A_WAVE: Final = (0.25, 1.0, 24.0)
"""Hours for one wave of batches: soon, usual (most end within an hour), and the API's hard end."""

_SPREAD: Final = (0.6, 1.6)


@attrs.frozen(kw_only=True)
class Forecast:
    """Money in US dollars, time in hours.

    ``usd`` is the expected cost with the interval ``low`` to ``high``; ``worst_usd`` bounds every row's first
    request at its full ``max_tokens``; ``peak_exposure_usd`` is the worst case of what may wait remotely at one
    time. ``assumptions`` says what the figures rest on.
    """

    rows: int
    sendable: int
    usd: Decimal
    low: Decimal
    high: Decimal
    worst_usd: Decimal
    peak_exposure_usd: Decimal
    batches: int
    hours: tuple[float, float, float]
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]

    def __str__(self) -> str:
        """Give the forecast as text."""
        soon, usual, latest = self.hours
        lines = [
            f"{self.sendable:,} of {self.rows:,} rows to send, {counted(self.batches, 'batch', 'batches')}",
            f"  expected {dollars(self.usd)} ({dollars(self.low)} to {dollars(self.high)})",
            f"  at worst {dollars(self.worst_usd)} for first requests, {dollars(self.peak_exposure_usd)} exposed at one time",
            f"  about {usual:.1f} h ({soon:.1f} h if batches end fast, {latest:.0f} h at the latest)",
        ]
        lines += [f"  ! {warning}" for warning in self.warnings]
        lines += [f"  assumed: {assumption}" for assumption in self.assumptions]
        return "\n".join(lines)


@attrs.frozen(kw_only=True)
class Scale:
    """How a run is cut into batches: the workflow's limits."""

    max_rows: int
    max_bytes: int
    max_in_queue: int


def forecast(
    spec: Spec[Any],
    rows: object,
    *,
    builder: RequestBuilder[Any],
    prices: Mapping[str, Price],
    scale: Scale,
    on_duplicate: OnDuplicate = "refuse",
) -> Forecast:
    """Read the rows once, size each request, and add up. Sends nothing, and holds 24 bytes a row.

    Records that share a key are counted as :meth:`Workflow.start` would treat them; where it would refuse them, they
    are counted as sent, and a warning says so.

    Raises:
        UsageError: a tier's model has no known price; give one with ``Tier(price=)`` or ``Workflow(prices=)``.
        MissingField, KeyTypeError: the rows cannot be used as they are.
    """
    check_on_duplicate(on_duplicate)
    sums, kept = _Sums(spec, builder, prices), _Kept(builder)
    for page in Freezer(spec, builder=builder).pages(source.records(_taken(rows, spec))):
        for row in page:
            kept.add(row)
            sums.count(row)
    repeated, refused = kept.repeated(on_duplicate)
    for position, size in enumerate(kept.sizes):
        if size >= 0 and position not in repeated:
            sums.add(size)
    sums.repeat(sum(kept.answerable(position) for position in repeated), refused)
    return sums.forecast(scale)


def _taken(rows: object, spec: Spec[Any]) -> object:
    if isinstance(rows, Rows):
        return ({**(view.fields or {}), spec.key: view.key} for view in rows.views(source=True))
    return rows


def _view(key: RowKey, tier: int, fields: Mapping[str, str | None]) -> RowView:
    """Give a row as it would stand before its first request at a tier."""
    return RowView(RowId(0), key, RowState.PENDING, None, tier, 0, 0, 0, None, None, 0, 0, fields)


class _Kept:
    """What is held of each row until all are read: hashes of key and content, and the bytes it adds to a request."""

    def __init__(self, builder: RequestBuilder[Any]) -> None:
        self._builder = builder
        self._keys = array("q")
        self._contents = array("q")
        self.sizes = array("q")

    def add(self, row: SourceRow) -> None:
        self._keys.append(hash(row.key) if row.key else 0)
        self._contents.append(hash(row.line[row.line.index(b",") :]))
        sent = row.event is RowEvent.FROZEN
        self.sizes.append(row.size + len(self._builder.key_part(row.key)) if sent else -1)

    def answerable(self, position: int) -> bool:
        return self.sizes[position] >= 0

    def repeated(self, on_duplicate: OnDuplicate) -> tuple[frozenset[int], int]:
        """Give where the records stand that are set aside, and of how many keys the start would refuse the records."""
        suspects = meeting(key for key in self._keys if key)
        groups: dict[int, list[int]] = {}
        for position, key in enumerate(self._keys):
            if key in suspects:
                groups.setdefault(key, []).append(position)
        aside: list[int] = []
        refused = 0
        for positions in groups.values():
            same = len({self._contents[position] for position in positions}) == 1
            chosen = set_aside(positions, same=same, on_duplicate=on_duplicate)
            refused += chosen is None
            aside += chosen or ()
        return frozenset(aside), refused


class _Sums:
    def __init__(self, spec: Spec[Any], builder: RequestBuilder[Any], prices: Mapping[str, Price]) -> None:
        self._spec = spec
        self._builder = builder
        self._tiers = [
            (tier, tier.price or known_price(tier.model, prices), self._fixed(number), self._unread(number))
            for number, tier in enumerate(spec.tiers)
        ]
        self.rows = self.sendable = self.size = self.worst = self.expected = 0
        self._refused: Counter[Reason] = Counter()
        self._clashes = 0

    def count(self, row: SourceRow) -> None:
        self.rows += 1
        if row.event is not RowEvent.FROZEN and row.reason is not None:
            self._refused[row.reason] += 1

    def repeat(self, rows: int, clashes: int) -> None:
        """Take in how many rows are set aside as repeats, and how many keys the start would refuse."""
        if rows:
            self._refused[Reason.INPUT_DUPLICATE_KEY] += rows
        self._clashes = clashes

    def add(self, size: int) -> None:
        """Add a row to be sent, by the bytes of its text and its key."""
        self.sendable += 1
        share = 1.0
        for number, (tier, price, fixed, unread) in enumerate(self._tiers):
            whole = fixed + size
            usual = math.ceil(tier.max_tokens * ANSWER_SHARE)
            self.expected += math.ceil(share * expected(whole - unread, usual, price))
            if number == 0:
                self.size += whole
                self.worst += worst_case(whole, tier.max_tokens, price)
            share *= FIRST_TIER_FAILS

    def _warnings(self) -> Iterator[str]:
        for reason, n in self._refused.items():
            yield f"{n:,} rows are not sent: {reason.value}"
        if self._clashes:
            yield (
                f"{self._clashes:,} keys stand in the source with different content, and start() refuses them: choose "
                'on_duplicate="first" or "quarantine", here too'
            )

    def _fixed(self, tier: int) -> int:
        """Give the bytes of a request without its row's text and key. A tier's own template may show another text."""
        key, fields = RowKey("0"), dict.fromkeys(self._builder.fields, "")
        return self._builder.size(_view(key, tier, fields)) - len(self._builder.key_part(key))

    def _unread(self, tier: int) -> int:
        """Give the bytes of a request that are no text for the model: names, parameters and the schema."""
        empty = self._fixed(tier)
        static = self._spec.static(tier, show_schema=False)
        return empty - len(static.encode()) - len(self._spec.prompt_of(tier).user.encode())

    def forecast(self, scale: Scale) -> Forecast:
        by_rows = math.ceil(self.sendable / (0.9 * scale.max_rows))
        by_bytes = math.ceil(self.size / scale.max_bytes)
        waves = math.ceil(self.sendable / scale.max_in_queue) + (len(self._tiers) - 1) * bool(self.sendable)
        exposed = (
            self.worst
            if self.sendable <= scale.max_in_queue
            else self.worst * scale.max_in_queue // self.sendable
        )
        low, high = _SPREAD
        return Forecast(
            rows=self.rows,
            sendable=self.sendable,
            usd=Decimal(self.expected) / NANO,
            low=Decimal(int(self.expected * low)) / NANO,
            high=Decimal(int(self.expected * high)) / NANO,
            worst_usd=Decimal(self.worst) / NANO,
            peak_exposure_usd=Decimal(exposed) / NANO,
            batches=max(by_rows, by_bytes),
            hours=(waves * HOURS_A_WAVE[0], waves * HOURS_A_WAVE[1], waves * HOURS_A_WAVE[2]),
            warnings=tuple(self._warnings()),
            assumptions=(
                "four bytes of text to a token, the schema not counted, nothing read from the cache",
                f"an answer of {ANSWER_SHARE:.0%} of max_tokens, {FIRST_TIER_FAILS:.0%} of a tier's answers going to the next",
                "batch prices; the interval covers answers and tokens of other lengths, not prices that change",
            ),
        )
