"""Reading a pilot: each answer of a version, what people said of it, and what they expect of the row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar, cast

import attrs

from batchkit.contract import Contract
from batchkit.desks import plain_output, stored_spec
from batchkit.evalset import EvalRow
from batchkit.grading import Case, Verdict, grade_case
from batchkit.judgements import Judgement, Ledger, pilot_scope, shown_hash
from batchkit.model import DocKind, RowView, Where
from batchkit.model import Run as RunRecord
from batchkit.reasons import Reason
from batchkit.sampler import Picked
from batchkit.scorers import Scorer, default_scorers, exact, named_scorer
from batchkit.states import RowState
from batchkit.storage import Store

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Reading:
    """How one row of one version stands.

    Attributes:
        view: The row as the store has it.
        picked: The sampled record.
        case: The row as it is graded.
        shown: A hash of what a person sees.
        history: What was said of exactly that, oldest first.
        verdict: What stands: said of this answer, or carried over by grade; None where the row is unread.
        expectation: What people expect of the row.
    """

    view: RowView
    picked: Picked
    case: Case
    shown: str
    history: tuple[Judgement, ...]
    verdict: Verdict | None
    expectation: Judgement | None

    @property
    def closed(self) -> bool:
        """Tell whether the row is answered; while its run goes on there is nothing to read."""
        return self.view.state not in {RowState.PENDING, RowState.SUBMITTED}

    @property
    def can_be_accepted(self) -> bool:
        """Tell whether there is an answer to accept, or none on purpose."""
        return self.case.actual is not None or self.case.hushed

    def eval_row(self) -> EvalRow | None:
        """Give the row of an eval set, None where nobody said anything of it."""
        said = self.expectation
        if said is None:
            return None
        rejected = said.decision == "reject"
        return EvalRow(
            key=self.picked.key,
            source=dict(self.case.source),
            expected=None if rejected else said.output,
            verdict=cast("Verdict", said.decision),
            by=said.by,
            at=said.at,
            note=said.note,
            tags=self.picked.tags,
            not_this=said.output if rejected else None,
        )


class Reader(Generic[T]):
    """Reads the versions of one pilot from the store."""

    def __init__(
        self,
        store: Store,
        name: str,
        picked: Mapping[str, Picked],
        contract_of: Callable[[RunRecord], Contract[T] | None],
    ) -> None:
        """Read the pilot ``name``; ``contract_of`` gives None where this code cannot judge a version."""
        self._store = store
        self._name = name
        self._picked = picked
        self._contract_of = contract_of
        self.ledger: Ledger = Ledger(store, pilot_scope(name))

    def read(
        self, record: RunRecord, *, graded: bool, keys: Sequence[str] | None = None
    ) -> dict[str, Reading]:
        """Give how rows of a version stand: each answer, and what was said of exactly that answer.

        Args:
            record: the version's run.
            graded: a verdict is carried over where the answer is graded equal to the expected one.
            keys: only these rows.
        """
        contract = self._contract_of(record)
        history = self.ledger.standing()
        scorers = self.carrying(record)
        found: dict[str, Reading] = {}
        for view in self._views(record):
            if keys is not None and view.key not in keys:
                continue
            held = history.get(view.key, [])
            shown = shown_hash(view)
            said = tuple(judgement for judgement in held if judgement.shown == shown)
            expectation = self._expectation(view, held, contract)
            case = self._case(view, contract, expectation, said[-1] if said else None)
            verdict = case.read
            if verdict is None and graded and expectation is not None:
                passed = grade_case(case, scorers)
                verdict = "accept" if passed is not None and passed.good else None
            found[view.key] = Reading(
                view=view,
                picked=self._picked[view.key],
                case=case,
                shown=shown,
                history=said,
                verdict=verdict,
                expectation=expectation,
            )
        return found

    def carrying(self, record: RunRecord) -> dict[str, Scorer]:
        """Give the comparisons by which a verdict is carried over, for a contract whose code may be gone.

        A user's own is not at hand here; equal values stand in for it, so that a person reads more and not less.
        """
        schema = stored_spec(self._store, record).schema
        known = default_scorers(schema)
        named = {field: named_scorer(name) or exact for field, name in self.scorers().items()}
        return {**known, **{field: scorer for field, scorer in named.items() if field in known}}

    def scorers(self) -> dict[str, str]:
        """Give the comparisons, by name, that the newest eval set was locked with."""
        held = self._store.docs(DocKind.EVALSET, scope=pilot_scope(self._name))
        if not held:
            return {}
        header = json.loads(held[-1][1].split(b"\n", 1)[0])
        return {str(field): str(name) for field, name in header.get("scorers", {}).items()}

    def _views(self, record: RunRecord) -> Iterator[RowView]:
        where = Where(source=True, results=True)
        # A pilot is some hundred rows: one page.
        yield from self._store.page(record.id, where, limit=max(1, len(self._picked)))

    def _expectation(
        self, view: RowView, held: Sequence[Judgement], contract: Contract[T] | None
    ) -> Judgement | None:
        """Give what people expect of a row: the last answer they accepted or gave, else the last one they rejected.

        What was said of the same answer later replaces what was said before. An expected answer that breaks
        the contract of today counts for nothing.
        """
        latest = {judgement.shown: judgement for judgement in held}
        ranked = sorted(
            latest.values(), key=lambda judgement: (judgement.decision != "reject", held.index(judgement))
        )
        if not ranked:
            return None
        best = ranked[-1]
        if best.output is not None and contract is not None and best.decision != "reject":
            verdict = contract.check(json.dumps(best.output), view.record())
            if verdict.reason not in {None, Reason.OUTPUT_SPARSE}:
                return None
        return best

    def _case(
        self,
        view: RowView,
        contract: Contract[T] | None,
        expectation: Judgement | None,
        said: Judgement | None,
    ) -> Case:
        rejected = expectation is not None and expectation.decision == "reject"
        silent = expectation is not None and expectation.decision == "accept" and expectation.output is None
        expected = expectation.output if expectation is not None and not rejected else None
        if said is not None and said.decision == "edit":
            expected = said.output
        return Case(
            key=view.key,
            source=view.record(),
            tags=self._picked[view.key].tags,
            expected=expected,
            actual=plain_output(view, contract),
            read=cast("Verdict", said.decision) if said is not None else None,
            silent=silent,
            hushed=view.reason is Reason.INPUT_SPARSE,
            not_this=expectation.output if expectation is not None and rejected else None,
        )
