"""The promoter: a run's staged answers go to a catalog, and a note of it to the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, Generic, TypeVar

import attrs

from batchkit.contract import Contract
from batchkit.errors import NotBalanced, StoreError, UsageError
from batchkit.ids import Digest, RowId
from batchkit.judgements import has_unsettled
from batchkit.model import DocKind, Run, Where
from batchkit.spec import Spec
from batchkit.standing import scope_of
from batchkit.states import RowState, RunState
from batchkit.storage import Store
from batchkit.targets import Note, OutputField, Problem, Promotion, StagedRow, Target

T = TypeVar("T")

_JSON_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}
_PAGE = 500
"""Rows read at a time: few enough to be gone before the cyclic collector looks at them."""


class Promoter:
    """Feeds the staged rows of a run to a target. Needs the store, and no lease: it changes no row."""

    def __init__(self, store: Store) -> None:
        """Promote runs of this store."""
        self._store = store

    def check(self, spec: Spec[Any], target: Target) -> Sequence[Problem]:
        """Give what would keep answers of this spec from being promoted, before any money is spent.

        Beside what the target itself finds, a guard column that is not frozen with the rows is a problem.
        """
        problems = [
            Problem(
                column=name,
                what="the guard is not frozen with the rows",
                fix=f"Freeze it: Spec(..., metadata=[{name!r}])",
            )
            for name in target.guard_columns
            if name not in spec.used_fields
        ]
        return [*target.check(output_fields(spec.contract)), *problems]

    def promote(
        self,
        run: Run,
        spec: Spec[T],
        target: Target,
        *,
        receipt: Digest,
        where: Callable[[T], object] | None = None,
        dry_run: bool = False,
    ) -> Promotion:
        """Write the staged answers of a closed run to the catalog, once per receipt.

        Receipts that count the very same rows and answers are one here: promoting is itself in the next
        receipt, and that must not make a second promotion.

        Args:
            run: the run as the store has it now.
            spec: the spec, whose contract reads the answers.
            target: the catalog.
            receipt: the SHA-256 of the receipt that proves the balance.
            where: rows for whose output this is false are held back.
            dry_run: count, and change nothing.

        Raises:
            NotBalanced: the run is not closed, or what somebody decided about its rows is not settled.
            UsageError: a guard column was not frozen with the rows, or ``where`` raised.
            StoreError: rows changed while they were read; nothing was written.
            TargetError: the catalog refused; nothing was written.
        """
        if run.state is not RunState.CLOSED:
            raise NotBalanced(
                f"run {run.name!r} is {run.state.value}: rows are still open, and promotion waits for the proof."
                " Nothing was changed. Go on with run.wait()."
            )
        if _decisions_wait(self._store, run):
            raise NotBalanced(
                f"run {run.name!r}: somebody took an answer back or gave one, and that is not settled yet. Nothing was"
                " changed. Whoever moves the run settles it: run.wait(), then promote again."
            )
        note = Note(
            run=run.name,
            receipt=receipt,
            content=self._content(run, receipt),
            fields=spec.contract.fields,
            partial=where is not None,
            store=self._origin(),
        )
        staged = _Staged(
            store=self._store, run=run, contract=spec.contract, guard=target.guard_columns, where=where
        )
        promotion = target.promote(note, iter(staged), dry_run=dry_run)
        if not promotion.dry_run:
            self._remember(run, promotion)
        return promotion

    def _origin(self) -> str:
        """Tell this store from every other: by its first run, which stays the first wherever the store is moved."""
        first = min(self._store.runs(), key=lambda run: run.id)
        return hashlib.sha256(f"{first.id} {first.name} {first.created_at!r}".encode()).hexdigest()

    def _content(self, run: Run, receipt: Digest) -> Digest:
        """Give the digest of the rows and answers that a receipt of this store counts; else the receipt's own."""
        for _, body in reversed(self._store.docs(DocKind.RECEIPT, scope=scope_of(run.id))):
            if hashlib.sha256(body).hexdigest() == receipt:
                return Digest(json.loads(body)["rows_sha256"])
        return receipt

    def _remember(self, run: Run, promotion: Promotion) -> None:
        """Keep a note, once. It is a cache: the catalog's own table is the truth."""
        body = _body(promotion)
        scope = scope_of(run.id)
        if all(known != body for _, known in self._store.docs(DocKind.PROMOTION, scope=scope)):
            self._store.append(DocKind.PROMOTION, scope, body)


@attrs.frozen(kw_only=True)
class _Staged(Generic[T]):
    """The staged rows of a run, a page at a time."""

    store: Store
    run: Run
    contract: Contract[T]
    guard: tuple[str, ...]
    where: Callable[[T], object] | None

    def __iter__(self) -> Iterator[StagedRow]:
        expected = self.store.tally(self.run.id).in_state(RowState.SUCCEEDED)
        staged = Where(states=frozenset({RowState.SUCCEEDED}), source=bool(self.guard), answers=True)
        contract, count = self.contract, 0
        after: RowId | None = None
        while page := self.store.page(self.run.id, staged, after=after, limit=_PAGE):
            # Every staged row has the result that staged it; a state without one would be an error here.
            order = self.store.settled_order([row.result for row in page if row.result is not None])
            for row, answer in zip(page, order, strict=True):
                output = self._read(row.key, row.answer or b"")
                if self.where is not None and not self._wanted(row.key, output):
                    yield StagedRow(row.key, None, {})
                else:
                    frozen = self._frozen(row.key, row.fields or {})
                    yield StagedRow(row.key, contract.dump(output), frozen, answer)
            count += len(page)
            after = page[-1].id
        if count != expected or _decisions_wait(self.store, self.run):
            raise StoreError(
                f"run {self.run.name!r} had {expected:,} staged rows and {count:,} were read: somebody's decision came in"
                " between. Nothing was written. Reconcile again, then promote again."
            )

    def _read(self, key: str, answer: bytes) -> T:
        try:
            return self.contract.load(answer)
        except ValueError as error:
            raise UsageError(
                f"row {key!r}: the accepted answer does not fit the contract given. Nothing was written."
                f" Promote {self.run.name!r} with the spec it ran under."
            ) from error

    def _wanted(self, key: str, output: T) -> bool:
        assert self.where is not None
        try:
            return bool(self.where(output))
        except Exception as error:
            raise UsageError(
                f"where= raised {type(error).__name__} for row {key!r}. Nothing was written."
            ) from error

    def _frozen(self, key: str, fields: Mapping[str, str | None]) -> Mapping[str, str | None]:
        for name in self.guard:
            if name not in fields:
                raise UsageError(
                    f"row {key!r}: guard column {name!r} was not frozen with the rows. Nothing was written."
                    f" Freeze it: Spec(..., metadata=[{name!r}])"
                )
        return fields


def _decisions_wait(store: Store, run: Run) -> bool:
    """Tell whether somebody has decided about a row by now and nobody has settled it."""
    return has_unsettled(store, store.runs(name=run.name)[0])


def output_fields(contract: Contract[Any]) -> tuple[OutputField, ...]:
    """Give what a contract says of each output field, for a target to check."""
    schema = contract.schema
    defs = schema.get("$defs", {})
    top = next(_branches(schema, defs))["properties"]
    found = []
    for name in contract.fields:
        branches = list(_branches(top[name], defs))
        lengths = [branch.get("maxLength", inf) for branch in branches if "string" in _kinds(branch)]
        longest = max(lengths, default=inf)
        found.append(
            OutputField(
                name=name,
                kinds=frozenset(kind for branch in branches for kind in _kinds(branch)),
                max_length=None if longest == inf else int(longest),
                allowed=tuple(value for value in contract.enums.get(name, ()) if value is not None),
            )
        )
    return tuple(found)


def _branches(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give the alternatives of a schema node, references followed."""
    if "$ref" in node:
        yield from _branches(defs[str(node["$ref"]).rpartition("/")[2]], defs)
    elif options := node.get("anyOf") or node.get("oneOf") or node.get("allOf"):
        for option in options:
            yield from _branches(option, defs)
    else:
        yield node


def _kinds(node: Mapping[str, Any]) -> set[str]:
    """Give the JSON types that a node without alternatives admits."""
    if "const" in node or "enum" in node:
        values = node.get("enum", [node.get("const")])
        return {_JSON_TYPES[type(value)] for value in values}
    declared = node.get("type", [])
    return {declared} if isinstance(declared, str) else set(declared)


def _body(promotion: Promotion) -> bytes:
    facts = {**promotion.to_dict(), "id": str(promotion.id), "staged": promotion.staged}
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
