"""What lies before a person: the queue of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Final

from batchkit.contract import Contract
from batchkit.errors import LeaseLost, UsageError
from batchkit.ids import RowId, RowKey
from batchkit.judgements import (
    Judgement,
    Ledger,
    has_unsettled,
    promotions_noted,
    settle_judgements,
    shown_hash,
    unsettled_judgements,
    write_judgement,
)
from batchkit.lease import held, new_owner
from batchkit.model import DocKind, RowView, Run, Where
from batchkit.reasons import Reason
from batchkit.receipt import issue_receipt
from batchkit.review import ReviewProgress, ReviewRow, counted
from batchkit.shapecheck import violations
from batchkit.spec import Spec, StoredSpec
from batchkit.standing import scope_of
from batchkit.states import RowState, RunState, outcome
from batchkit.storage import Store

QUEUE_VERDICTS: Final = ("answer", "accept", "edit", "unanswerable", "reject", "send_back")
"""Verdicts of a human queue; ``edit`` is another word for ``answer``."""

_PAGE = 1_000
_ANSWERED = frozenset({RowState.SUCCEEDED, RowState.UNCHANGED})


class QueueDesk:
    """The rows of a run that wait for a person. Decisions change them by the same settle as a model's answers."""

    verdicts = QUEUE_VERDICTS

    def __init__(self, store: Store, run: Run, spec: Spec[Any] | None) -> None:
        """Take the run's queue; without ``spec`` decisions wait for whoever moves the run."""
        self._store = store
        self._name = run.name
        self._id = run.id
        self._spec = spec
        self._ledger = Ledger(store, scope_of(run.id))
        self._stored = spec if spec is not None else stored_spec(store, run)

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of an answer."""
        return self._stored.schema

    def rows(self, keys: Sequence[str] | None = None) -> Iterator[ReviewRow]:
        """Give the rows that wait and of which nothing was said; with ``keys`` those."""
        said = self._ledger.standing()
        unsettled = self._unsettled()
        if keys is None:
            yield from (
                self._row(view, said, unsettled) for view in self._views() if view.key not in unsettled
            )
        else:
            yield from (self._row(view, said, unsettled) for view in self._found(keys))

    def _found(self, keys: Iterable[str]) -> Iterator[RowView]:
        ids = sorted(set(self._store.locate(self._id, [RowKey(key) for key in dict.fromkeys(keys)]).values()))
        for start in range(0, len(ids), _PAGE):
            yield from self._store.rows(ids[start : start + _PAGE], source=True, results=True)

    def _views(self) -> Iterator[RowView]:
        where = Where(states=frozenset({RowState.HUMAN}), source=True, results=True)
        after: RowId | None = None
        while page := self._store.page(self._id, where, after=after, limit=_PAGE):
            yield from page
            after = page[-1].id

    def _row(self, view: RowView, said: Mapping[str, Sequence[Judgement]], unsettled: Set[str]) -> ReviewRow:
        waiting = view.state is RowState.HUMAN
        return ReviewRow(
            key=view.key,
            source=view.record(),
            outcome=outcome(view.state, view.reason),
            reason=view.reason,
            detail=view.detail,
            answer=None if view.answer is None else view.answer.decode("utf-8", "replace"),
            output=plain_output(view, self._spec.contract if self._spec is not None else None),
            # A row that came back to the queue is unread again, whatever was said of it before.
            history=tuple(said.get(view.key, ())) if not waiting or view.key in unsettled else (),
            shown=shown_hash(view),
            open=waiting and view.key not in unsettled,
        )

    def _unsettled(self) -> set[str]:
        """Give the rows about which a decision waits for whoever moves the run."""
        return set(unsettled_judgements(self._store, self._fresh()))

    def progress(self) -> ReviewProgress:
        """Count the rows that wait, and what people said of the others."""
        said, unsettled = self._ledger.standing(), self._unsettled()
        # A decision that was refused when it was settled leaves its row waiting, and counts for nothing.
        done = [
            said[view.key][-1].decision
            for view in self._found(said)
            if view.state is not RowState.HUMAN or view.key in unsettled
        ]
        left = self._store.tally(self._id).in_state(RowState.HUMAN) - len(unsettled)
        return ReviewProgress(total=left + len(done), left=left, verdicts=counted(done))

    def judgement(
        self, row: ReviewRow, verdict: str, *, by: str, output: Any, note: str, tier: int | None
    ) -> Judgement:
        """Make a decision of a verdict, checked as far as can be done here."""
        last = len(self._stored.tiers) - 1
        made: dict[str, Any] = {
            "key": row.key,
            "by": by,
            "at": self._store.now(),
            "note": note,
            "shown": row.shown,
            "promotions": self._promotions(),
        }
        match verdict:
            case "answer" | "edit":
                return Judgement(decision="answer", output=self._checked(row, output), **made)
            case "accept":
                if row.output is None:
                    raise UsageError(f"row {row.key!r} has no answer to accept; give one: verdict 'answer'")
                return Judgement(decision="answer", output=self._checked(row, row.output), **made)
            case "unanswerable":
                return Judgement(decision="unanswerable", **made)
            case "reject":
                return Judgement(decision="reject", **made)
            case _:
                if tier is not None and not 0 <= tier <= last:
                    raise UsageError(f"row {row.key!r}: there is no tier {tier}; the last one is {last}")
                return Judgement(decision="send_back", tier=last if tier is None else tier, **made)

    def _checked(self, row: ReviewRow, output: Any) -> Mapping[str, Any]:
        if self._spec is not None:
            return checked_output(self._spec.contract, row, output)
        if not isinstance(output, Mapping):
            raise UsageError(f"row {row.key!r}: an answer is a mapping of the output's fields")
        wrong = violations(output, self.schema)
        if wrong:
            raise UsageError(f"row {row.key!r}: the answer breaks the contract: {'; '.join(wrong[:5])}")
        return output

    def write(self, judgements: Sequence[Judgement], *, whole: bool = False) -> int:
        """Write decisions down; settle them at once where the spec is known and nobody moves the run."""
        for judgement in judgements:
            write_judgement(self._store, scope_of(self._id), judgement)
        return 0 if self._settle(receipt=whole) else len(judgements)

    def settle(self) -> None:
        """Settle what was written down without the spec, an undo for one, so that it is seen from here."""
        if has_unsettled(self._store, self._fresh()):
            self._settle(receipt=False)

    def _settle(self, *, receipt: bool) -> bool:
        if self._spec is None:
            return False
        try:
            with held(self._store, self._id, new_owner("review")) as lease:
                if lease is None:
                    return False
                run = settle_judgements(self._store, lease, self._fresh(), self._spec)
                if receipt and run.state is RunState.CLOSED:
                    issue_receipt(self._store, run)
                return True
        except LeaseLost:
            return False

    def undo(self, row: ReviewRow, *, by: str) -> int:
        """Take a person's answer back, unless it stands in a catalog by now."""
        said = row.earlier
        if said is None or said.decision != "answer":
            raise UsageError(
                f"row {row.key!r}: only an answer can be taken back"
                + (f", and {said.by} said {said.decision!r}" if said is not None else "; nobody gave one")
            )
        if self._promotions() > said.promotions:
            raise UsageError(
                f"row {row.key!r}: the run was promoted after that answer was given, so it may stand in a catalog. Correct "
                f"it by a run of its own: rows(keys=[{row.key!r}]).rerun(...), and promote that"
            )
        made = Judgement(
            key=row.key, decision="undo", by=by, at=self._store.now(), promotions=self._promotions()
        )
        return self.write([made])

    def _promotions(self) -> int:
        """Count the run's promotions. Whether one was rolled back only the catalog knows; it counts all the same."""
        return promotions_noted(self._store, self._id)

    def _fresh(self) -> Run:
        return self._store.runs(name=self._name)[0]


def stored_spec(store: Store, run: Run) -> StoredSpec:
    """Give a run's spec as the store has it: it renders and says the answer's shape, and cannot judge."""
    held = store.get(DocKind.SPEC, run.spec)
    if held is None:
        raise UsageError(f"the store holds no spec of {run.name!r}; nothing of it can be judged")
    return StoredSpec.load(json.dumps(json.loads(held)["spec"]))


def plain_output(view: RowView, contract: Contract[Any] | None) -> Mapping[str, Any] | None:
    """Give an answer as plain JSON values: an accepted one, or one that says the record is too sparse."""
    shaped = view.state in _ANSWERED or view.reason is Reason.OUTPUT_SPARSE
    if not shaped or view.answer is None:
        return None
    if contract is not None:
        return contract.dump(contract.load(view.answer))
    plain = json.loads(view.answer)
    return plain if isinstance(plain, dict) else None


def checked_output(contract: Contract[Any], row: ReviewRow, output: Any) -> Mapping[str, Any]:
    """Give a person's answer as plain JSON values.

    Raises:
        UsageError: there is none, or it breaks the contract; the message names each place.
    """
    if output is None:
        raise UsageError(f"row {row.key!r}: give the right answer with it, output=...")
    verdict = contract.check(output, row.source)
    if not verdict.valid:
        raise UsageError(
            f"row {row.key!r}: the answer breaks the contract ({verdict.reason}): {verdict.detail}"
        )
    plain: Mapping[str, Any] = json.loads(verdict.text)
    return plain
