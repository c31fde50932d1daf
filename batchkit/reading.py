"""One reading of one result file: which lines belong to which rows, and what each does to its row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import ClassVar, Generic, TypeVar

from batchkit.accepting import Accepting
from batchkit.afterwards import Afterwards
from batchkit.contract import Contract
from batchkit.escalator import Escalator
from batchkit.lines import CutLine, LineSplitter
from batchkit.manifest import Manifest
from batchkit.model import Batch, Lease, Need, Settled
from batchkit.money import Coster
from batchkit.pricing import Pricing
from batchkit.reasons import Reason
from batchkit.states import RowEvent
from batchkit.storage import Store
from batchkit.validator import ResultLine, Validator, billed
from batchkit.verdict import CODE_FAILED, Verdict

__all__ = ["FileReading", "Manifest", "differences"]

T = TypeVar("T")

PAGE = 5_000
"""Rows settled in one transaction."""
HELD = 5_000
"""Most lines read ahead of being judged, where the rules need their records: these are read in order, pages at a time."""
HELD_BYTES = 8 << 20
"""Most bytes of such lines. They are held as they came: parsed ones would be dear to hold, dearer than reading twice."""

_new = tuple.__new__


class FileReading(Generic[T]):
    """Reads one result file from its first byte.

    Attributes:
        lines: Distinct members seen.
        settled: Rows changed.
        kinds: Lines by result type.
        duplicates: Lines of a member seen before.
        foreign: Lines whose custom id is none of the batch's.
        unreadable: Lines that are no result and belong to no member that can be told.
        need: What money is missing, where a line said so.
    """

    SHORT_WAY: ClassVar[bool] = True
    """Whether usual lines may pass by `_judge`; not where their answers become something else."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        batch: Batch,
        manifest: Manifest,
        *,
        validator: Validator[T],
        escalator: Escalator,
        pricing: Pricing,
        canceling: bool = False,
        careful: Callable[[int], None] | None = None,
        renewed: Callable[[], None] | None = None,
        unjudged: AbstractSet[int] = frozenset(),
    ) -> None:
        """Prepare one reading.

        Args:
            store: Takes the pages.
            lease: The right to move the run.
            batch: Whose file it is.
            manifest: Its members.
            validator: Judges the lines.
            escalator: Decides what happens to the rows.
            pricing: Prices the answers.
            canceling: The run is being canceled.
            careful: Is told the number of every member before its line is judged.
            renewed: Is called after every page, which renews the lease.
            unjudged: Numbers of members whose judging never came to its end: they are quarantined unjudged.
        """
        self._store = store
        self._lease = lease
        self._batch = batch
        self._manifest = manifest
        self._validator = validator
        self._pricing = pricing
        self._careful = careful
        self._renewed = renewed
        self._unjudged = unjudged
        self._trusting = careful is None and not unjudged
        self._afterwards = Afterwards(escalator, canceling=canceling)
        self._costers: dict[tuple[int, str], Coster | None] = {}
        self._in_hand: int | None = None
        self._seen = bytearray(len(manifest.rows))
        self._accepting = Accepting(
            validator,
            manifest,
            self._seen,
            afterwards=self._afterwards,
            pricing=pricing,
        )
        # A validator or a contract of the user's own making is asked in the usual way, line by line.
        self._short_way = (
            self.SHORT_WAY
            and self._trusting
            and not validator.needs_row
            and type(validator) is Validator
            and type(validator.contract) is Contract
        )
        self._ahead: list[tuple[int, bytes]] = []
        self._ahead_bytes = 0
        self._page: list[Settled] = []
        self._parked: dict[int, ResultLine] = {}
        self._hash = hashlib.sha256()
        self._bytes = 0
        self.lines: int = 0
        self.settled: int = 0
        self.kinds: dict[str, int] = {}
        self.duplicates: int = 0
        self.foreign: int = 0
        self.unreadable: int = 0
        self.unpriced: int = 0
        self.ignored: int = 0
        self.need: Need | None = None

    def read(self, chunks: Iterable[bytes], stop: Callable[[], bool] | None = None) -> bool:
        """Read the whole file, settling page after page; False if it was stopped on the way.

        Raises:
            ProviderError: the stream broke; what was settled stays settled.
        """
        splitter = LineSplitter(cap=self._validator.max_line)
        for chunk in chunks:
            if stop is not None and stop():
                self.flush()
                return False
            self._hash.update(chunk)
            self._bytes += len(chunk)
            self._take(splitter.feed(chunk))
            if len(self._page) + self._accepting.held >= PAGE:
                self._settle()
        for line in splitter.close():
            self._take_last(line)
        self.flush()
        return True

    def flush(self) -> None:
        """Judge and settle what is in hand."""
        self._judge_ahead()
        self._settle()

    def settle_parked(self) -> None:
        """Settle the rows whose line was there but could not be read, once the rest of the file agrees."""
        for number, line in sorted(self._parked.items()):
            if self._manifest.open[number]:
                self._judge(number, line, {})
        self._parked = {}
        self._settle()

    def close_rows(self, event: RowEvent, reason: Reason) -> int:
        """Take every row that still waits out of the batch; give how many."""
        numbers = list(self._manifest.still_open())
        return close_rows(self._store, self._lease, self._batch, self._manifest, numbers, event, reason)

    @property
    def in_hand(self) -> int | None:
        """Give the number of the member whose line is being judged, while code of the user's may run."""
        return self._in_hand if self._in_hand is not None else self._accepting.in_hand

    @property
    def digest(self) -> str:
        """Give the SHA-256 of what was read so far."""
        return self._hash.hexdigest()

    def facts(self) -> dict[str, object]:
        """Give what the batch's notes keep of a complete reading."""
        return {
            "sha256": self.digest,
            "bytes": self._bytes,
            "lines_read": self.lines,
            "kinds": dict(self.kinds),
            "unpriced": self.unpriced + self._accepting.unpriced,
            "ignored": self.ignored,
        }

    def _take(self, lines: list[bytes]) -> None:
        if not self._short_way:
            for raw in lines:
                self._take_line(raw, self._validator.read(raw))
            return
        taken = self._accepting.take(lines, unusual=self._take_line, judged=self._enter)
        if taken:
            self.lines += taken
            self.kinds["succeeded"] = self.kinds.get("succeeded", 0) + taken

    def _take_line(self, raw: bytes, line: ResultLine) -> None:
        # A line may have no id, which no row has either; to ask first would cost a step a line.
        number = self._manifest.index.get(line.custom_id)  # type: ignore[call-overload]
        if number is None:
            self._strange(raw, line.kind)
            return
        if self._seen[number]:
            self.duplicates += 1
            return
        self._seen[number] = 1
        self.lines += 1
        if line.kind == "unreadable":
            self._parked[number] = line
            return
        self.kinds[line.kind] = self.kinds.get(line.kind, 0) + 1
        if not self._manifest.open[number]:
            self._spare(number, line)
        elif self._validator.needs_row:
            self._ahead.append((number, raw))
            self._ahead_bytes += len(raw)
            if len(self._ahead) >= HELD or self._ahead_bytes >= HELD_BYTES:
                self._judge_ahead()
        else:
            self._judge(number, line, None)

    def _take_last(self, raw: bytes) -> None:
        """Take a last line without a line end: if it cannot be read, the file was cut off inside it."""
        if not isinstance(raw, CutLine) and self._validator.read(raw).kind == "unreadable":
            self._strange(raw, "unreadable")
        else:
            self._take([raw])

    def _strange(self, raw: bytes, kind: str) -> None:
        if not raw.strip():
            return
        if kind == "unreadable":
            self.unreadable += 1
        else:
            self.foreign += 1

    def _judge_ahead(self) -> None:
        if not self._ahead:
            return
        ids = [self._manifest.rows[number] for number, _ in self._ahead]
        for (number, raw), row in zip(self._ahead, self._store.rows(ids, source=True), strict=True):
            self._judge(number, self._validator.read(raw), row.fields)
        self._ahead.clear()
        self._ahead_bytes = 0

    def _judge(self, number: int, line: ResultLine, fields: Mapping[str, str | None] | None) -> None:
        """Judge one line and put what it does to its row on the page."""
        if self._trusting:
            self._in_hand = number
            verdict = self._validator.judge(line, fields)
            self._in_hand = None
        else:
            verdict = self._verdict(number, line, fields)
        self._enter(number, verdict)

    def _enter(self, number: int, verdict: Verdict[T]) -> None:
        """Put what a verdict does to its row on the page."""
        manifest = self._manifest
        standing = manifest.standings[number]
        said, detail, _, text, usage, model = verdict
        if said is not None and (number in self._unjudged or detail.startswith(CODE_FAILED)):
            # Nothing is wrong with the answer: neither asking again nor a larger model can mend our code.
            after = self._afterwards.unfinished(standing)
        else:
            after = self._afterwards.of(said, standing)
        amount = 0
        if usage is not None:
            try:
                count = self._costers[standing[0], model]
            except KeyError:
                count = self._costers[standing[0], model] = self._pricing.coster(standing[0], model)
            if count is not None:
                amount = count(usage)
            else:
                self.unpriced += 1
        event, reason, tier, tries, resends = after
        # The positional form, past the generated __new__: this runs once for every line.
        self._page.append(
            _new(
                Settled,
                (
                    manifest.rows[number],
                    event,
                    reason,
                    tier,
                    tries,
                    resends,
                    said,
                    detail,
                    text or None,
                    usage,
                    amount,
                    model,
                ),
            )
        )
        manifest.open[number] = 0
        if event is RowEvent.MONEY_PAUSED and self.need is None:
            self.need = _money_need(self._batch, detail)

    def _spare(self, number: int, line: ResultLine) -> None:
        """Do nothing with the line of a member that does not wait: it was settled by an earlier reading."""

    def _verdict(self, number: int, line: ResultLine, fields: Mapping[str, str | None] | None) -> Verdict[T]:
        """Judge a line of a file over which a reading has ended before."""
        if number in self._unjudged:
            raw, usage, model = billed(line)
            return Verdict(Reason.OUTPUT_RULE, "did not finish", None, raw, usage, model)
        if self._careful is not None:
            self._careful(number)
        self._in_hand = number
        verdict = self._validator.judge(line, fields)
        self._in_hand = None
        return verdict

    def _settle(self) -> None:
        others, self._page = self._page, []
        if self._accepting.held:
            # Whole: a chunk of the file may bring a few more than a page, and they are not worth a transaction.
            self._apply(self._accepting.page(others))
            return
        while others:
            room = PAGE if len(others) >= 2 * PAGE else len(others)
            self._apply(others[:room])
            others = others[room:]

    def _apply(self, page: Sequence[Settled]) -> None:
        applied = self._store.settle(self._lease, self._batch.id, page)
        self.settled += applied.applied
        self.ignored += len(applied.ignored)
        if self._renewed is not None:
            self._renewed()


def close_rows(
    store: Store,
    lease: Lease,
    batch: Batch,
    manifest: Manifest,
    numbers: list[int],
    event: RowEvent,
    reason: Reason,
) -> int:
    """Take rows out of a batch that has no line for them; give how many there were."""
    done = 0
    for start in range(0, len(numbers), PAGE):
        settled = [
            Settled(manifest.rows[n], event, reason, *manifest.standings[n][:3], verdict=reason)
            for n in numbers[start : start + PAGE]
        ]
        done += store.settle(lease, batch.id, settled).applied
    return done


def differences(
    reading: FileReading[T], counts: Mapping[str, int] | None, members: int
) -> dict[str, int | str]:
    """Say what keeps a reading from being complete; nothing where lines, counts and members agree."""
    wrong: dict[str, int | str] = {}
    if reading.lines != members:
        wrong["missing"] = members - reading.lines
    for name in ("duplicates", "foreign", "unreadable"):
        number: int = getattr(reading, name)
        if number:
            wrong[name] = number
    if counts is None:
        wrong["counts"] = "not told"
    elif sum(counts.values()) != members:
        wrong["counts"] = f"{sum(counts.values())} for {members} members"
    elif not wrong and "unknown" not in reading.kinds and sum(reading.kinds.values()) == members:
        # Every line could be told apart, so the provider's own tally must be the same.
        told = {name: n for name, n in counts.items() if n}
        if told != reading.kinds:
            wrong["counts"] = (
                f"provider {dict(sorted(told.items()))}, file {dict(sorted(reading.kinds.items()))}"
            )
    return wrong


def _money_need(batch: Batch, detail: str) -> Need:
    return Need(
        who="money",
        why=f"the provider refused rows of batch {batch.id} for money: {detail}. The rows wait; nothing was billed for them",
        fix="add credit or raise the limit at the provider, then: python -m batchkit resume STORE RUN",
        code="api.credit",
    )
