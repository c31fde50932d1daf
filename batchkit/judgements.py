"""What people decide: written down by anybody at any time, settled by whoever moves the run, by the same contract."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from hashlib import sha256
from itertools import groupby
from typing import Any, Final, Literal, TypeAlias

import attrs
from typing_extensions import assert_never

from batchkit.errors import UsageError
from batchkit.ids import ResultId, RowId, RowKey, RunId
from batchkit.model import DocKind, Lease, NewEvent, ResultView, RowView, Run, RunFacts, Settled
from batchkit.reasons import Reason
from batchkit.spec import Spec
from batchkit.standing import scope_of
from batchkit.states import RowEvent, RowState, RunState, outcome
from batchkit.storage import DocumentStore, Store

Decision: TypeAlias = Literal["answer", "accept", "edit", "unanswerable", "reject", "send_back", "undo"]
DECISIONS: Final[tuple[Decision, ...]] = (
    "answer",
    "accept",
    "edit",
    "unanswerable",
    "reject",
    "send_back",
    "undo",
)

_SEEN: Final = "judgements_seen"
_PAGE: Final = 1_000


@attrs.frozen(kw_only=True)
class Judgement:
    """One decision of one person about one row.

    Attributes:
        key: The record's key.
        decision: What was decided; a queue and a pilot know different ones.
        by: Who decided.
        at: When, in epoch seconds.
        note: In the person's words.
        output: The answer, as plain JSON values, where the decision brings one.
        tier: Where a row is sent back to.
        shown: What the person saw, by :func:`shown_hash`.
        version: The version of a pilot that was read; 0 in a queue.
        line: A hash of the file's line it came from; empty where it came from Python.
        promotions: How often the run had been promoted by then.
    """

    key: str
    decision: Decision
    by: str
    at: float
    note: str = ""
    output: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    tier: int = 0
    shown: str = ""
    version: int = 0
    line: str = ""
    promotions: int = 0

    def __attrs_post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise UsageError(
                f"row {self.key!r}: {self.decision!r} is no decision; they are {', '.join(DECISIONS)}"
            )
        if not self.by:
            raise UsageError(f"row {self.key!r}: a decision needs a name, by=...")


def pilot_scope(name: str) -> str:
    """Give the scope under which a pilot's judgements and eval sets stand."""
    return f"pilot-{name}"


def write_judgement(store: DocumentStore, scope: str, judgement: Judgement) -> str:
    """Write a decision down and give its id."""
    body = json.dumps(attrs.asdict(judgement), ensure_ascii=False).encode("utf-8", "backslashreplace")
    return store.append(DocKind.JUDGEMENT, scope, body)


def read_judgements(store: DocumentStore, scope: str, *, after: str = "") -> Iterator[tuple[str, Judgement]]:
    """Give the decisions of a scope with their ids, in the order they were written."""
    while page := store.docs(DocKind.JUDGEMENT, scope=scope, after=after, limit=_PAGE):
        for id_, body in page:
            yield id_, Judgement(**json.loads(body))
        after = page[-1][0]


class Ledger:
    """The decisions of a scope that stand. Decisions are only ever added, so each look reads the new ones alone."""

    def __init__(self, store: DocumentStore, scope: str, *, after: str = "") -> None:
        """Keep the decisions of ``scope`` whose id is above ``after``."""
        self._store = store
        self._scope = scope
        self._seen = after
        self._standing: dict[str, list[Judgement]] = {}

    def standing(self) -> Mapping[str, Sequence[Judgement]]:
        """Give the decisions that stand, by key, oldest first.

        An undo takes the last one away; one that names what was shown, the last one about that.
        """
        for id_, judgement in read_judgements(self._store, self._scope, after=self._seen):
            self._seen = id_
            self._enter(judgement)
        return self._standing

    def _enter(self, judgement: Judgement) -> None:
        held = self._standing.setdefault(judgement.key, [])
        if judgement.decision != "undo":
            held.append(judgement)
        else:
            for place in reversed(range(len(held))):
                if judgement.shown in {"", held[place].shown}:
                    del held[place]
                    break
        if not held:
            del self._standing[judgement.key]


def shown_hash(row: RowView) -> str:
    """Give a hash of what a person judges: which row, where it ended, why, and the answer by its meaning.

    Blanks and the order of fields do not count. The row must have been read with results.
    """
    ended = [row.key, outcome(row.state, row.reason).value, row.reason.value if row.reason else None]
    answer: object = None
    if row.answer is not None:
        try:
            answer = json.loads(row.answer)
        except ValueError:
            answer = row.answer.decode("utf-8", "backslashreplace")
    text = json.dumps([*ended, answer], sort_keys=True, separators=(",", ":"))
    return sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def unsettled_judgements(store: DocumentStore, run: Run) -> Mapping[str, Sequence[Judgement]]:
    """Give the decisions about a run's rows that stand and that nobody has settled yet, by key."""
    return Ledger(store, scope_of(run.id), after=str(run.options.get(_SEEN, ""))).standing()


def promotions_noted(store: DocumentStore, run: RunId) -> int:
    """Count a run's promotions. Whether one was rolled back only the catalog knows; it counts all the same."""
    return len(store.docs(DocKind.PROMOTION, scope=scope_of(run)))


def has_unsettled(store: DocumentStore, run: Run) -> bool:
    """Tell whether any decision about a run's rows, an undo included, waits to be settled."""
    seen = str(run.options.get(_SEEN, ""))
    return bool(store.docs(DocKind.JUDGEMENT, scope=scope_of(run.id), after=seen, limit=1))


def settle_judgements(store: Store, lease: Lease, run: Run, spec: Spec[Any]) -> Run:
    """Apply the decisions that came since the last look, in order, each checked by the contract.

    One that is not possible (the row is not waiting for a person, the answer breaks the contract) changes no
    row and is reported as an event of kind ``answer.refused`` with the decision's id and why.

    Returns:
        The run as it is afterwards: open again where a row was sent back to a tier.
    """
    while True:
        seen = str(run.options.get(_SEEN, ""))
        page = store.docs(DocKind.JUDGEMENT, scope=scope_of(run.id), after=seen, limit=_PAGE)
        if not page:
            return run
        refused: list[NewEvent] = []
        for part in _parts([(id_, Judgement(**json.loads(body))) for id_, body in page]):
            refused += _settle(store, lease, run, spec, part)
        facts = RunFacts(options={**run.options, _SEEN: page[-1][0]}, events=tuple(refused))
        run = store.move_run(lease, expect=run.state, to=_after(store, run), facts=facts)


_Written: TypeAlias = "tuple[str, Judgement]"


def _parts(page: Sequence[_Written]) -> Iterator[list[_Written]]:
    """Cut a page where the person changes or a row comes up again, so that each part is one transaction."""
    for _, group in groupby(page, key=lambda written: written[1].by):
        part: list[_Written] = []
        keys: set[str] = set()
        for written in group:
            if written[1].key in keys:
                yield part
                part, keys = [], set()
            part.append(written)
            keys.add(written[1].key)
        yield part


def _after(store: Store, run: Run) -> RunState:
    """Give the run's state afterwards: a row that was sent back to a tier opens a closed run again."""
    if run.state is RunState.CLOSED and store.tally(run.id).in_state(RowState.PENDING):
        return RunState.OPEN
    return run.state


def _settle(
    store: Store, lease: Lease, run: Run, spec: Spec[Any], part: Sequence[_Written]
) -> list[NewEvent]:
    found = store.locate(run.id, [RowKey(judgement.key) for _, judgement in part])
    rows = {row.id: row for row in store.rows(sorted(set(found.values())), source=True, results=True)}
    undone = {found[RowKey(j.key)] for _, j in part if j.decision == "undo" and RowKey(j.key) in found}
    before = _before_people(store, run, undone)
    promoted = promotions_noted(store, run.id) if undone else 0
    page: list[Settled] = []
    ids: dict[int, str] = {}
    refused: list[NewEvent] = []
    for id_, judgement in part:
        row = rows.get(found[RowKey(judgement.key)]) if RowKey(judgement.key) in found else None
        settled = (
            "no such row"
            if row is None
            else judged(spec, row, judgement, before.get(row.id), promoted=promoted)
        )
        if isinstance(settled, str):
            refused.append(_refused(id_, settled))
        else:
            page.append(settled)
            ids[settled.row] = id_
    if page:
        applied = store.settle(lease, None, page, by=part[0][1].by)
        refused += [_refused(ids[row], NOT_WAITING) for row in applied.ignored]
    return refused


NOT_WAITING: Final = "the row is not waiting for a person"


def _refused(id_: str, why: str) -> NewEvent:
    return NewEvent(kind="answer.refused", severity="warn", data={"judgement": id_, "why": why})


def _before_people(store: Store, run: Run, rows: Set[RowId]) -> dict[RowId, ResultView]:
    """Give what sent each row to a person, from the history: an undone answer goes back to it."""
    found: dict[RowId, ResultView] = {}
    after: ResultId | None = None
    while rows and (page := store.results(run.id, after=after, limit=_PAGE)):
        found.update((one.row, one) for one in page if one.row in rows and one.event is RowEvent.TO_HUMAN)
        after = page[-1].id
    return found


def judged(
    spec: Spec[Any],
    row: RowView,
    judgement: Judgement,
    before: ResultView | None = None,
    *,
    promoted: int = 0,
) -> Settled | str:
    """Give what a decision does to a row of a queue, or why it does nothing.

    Args:
        spec: Whose contract checks an answer.
        row: As the store has it now, with source and results.
        judgement: What was decided.
        before: What sent the row to a person; None where no model was asked.
        promoted: How often the run has been promoted by now.
    """
    if judgement.decision == "undo":
        if row.state is not RowState.SUCCEEDED or not row.by:
            return "only a person's answer can be undone"
        if promoted > judgement.promotions:
            return "the run was promoted since, so the answer may stand in a catalog"
        values = row.id, RowEvent.ANSWER_UNDONE
        if before is None:
            return Settled(*values, Reason.INPUT_SPARSE, row.tier, row.tries, row.resends)
        back = before.verdict
        return Settled(
            *values,
            back,
            row.tier,
            row.tries,
            row.resends,
            back,
            before.detail,
            before.answer,
            model=before.model,
        )
    if row.state is not RowState.HUMAN:
        return NOT_WAITING
    if judgement.shown and judgement.shown != shown_hash(row):
        return "the row has another answer now than the one that was judged"
    match judgement.decision:
        case "unanswerable" | "reject":
            gone = judgement.decision == "unanswerable"
            reason = Reason.HUMAN_UNANSWERABLE if gone else Reason.HUMAN_REJECTED
            return Settled(
                row.id, RowEvent.JUDGED_OUT, reason, row.tier, row.tries, row.resends, reason, judgement.note
            )
        case "send_back":
            if not 0 <= judgement.tier < len(spec.tiers):
                return f"there is no tier {judgement.tier}"
            return Settled(row.id, RowEvent.SENT_BACK, None, judgement.tier, 0, 0, None, judgement.note)
        case "answer" | "accept" | "edit":
            return _answered(spec, row, judgement)
        case _:
            assert_never(judgement.decision)


def _answered(spec: Spec[Any], row: RowView, judgement: Judgement) -> Settled | str:
    verdict = spec.contract.check(judgement.output or {}, row.record())
    if not verdict.valid:
        return f"{verdict.reason}: {verdict.detail}"
    return Settled(
        row.id, RowEvent.ANSWERED, None, row.tier, row.tries, row.resends, None, judgement.note, verdict.text
    )
