"""A lock: a spec and an eval set that a person accepted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Generic

import attrs
from typing_extensions import TypeVar

from batchkit.evalset import EvalSet
from batchkit.gate import Gate
from batchkit.grading import Grade
from batchkit.judgements import pilot_scope
from batchkit.model import DocKind
from batchkit.spec import Spec
from batchkit.storage import DocumentStore

T = TypeVar("T", default=Any)


@attrs.frozen(kw_only=True)
class Lock(Generic[T]):
    """What a person accepted.

    Attributes:
        spec: What runs may be started with now.
        eval_set: The rows it was judged by.
        by: Who accepted it.
        at: When, in epoch seconds.
        note: In that person's words.
        pilot: The pilot's name.
        version: The version of the pilot that was read.
        rows: Rows that were judged.
        good: Of these, those that a model answered well.
    """

    spec: Spec[T]
    eval_set: EvalSet[T]
    by: str
    at: float
    note: str
    pilot: str
    version: int
    rows: int
    good: int

    @property
    def share(self) -> float:
        """Give the share of good rows."""
        return self.good / self.rows if self.rows else 1.0

    def __str__(self) -> str:
        """Give it as one line."""
        return (
            f"lock {self.spec.fingerprint[:6]} ({self.by}, {self.rows} rows, {self.share:.0%}), "
            f"eval set {self.eval_set.version}"
        )


def write_lock(
    store: DocumentStore, lock: Lock[Any], *, gate: Gate, grade: Grade, scorers: Mapping[str, str]
) -> None:
    """Store the eval set, if it is new, and the lock."""
    held = store.docs(DocKind.EVALSET, scope=pilot_scope(lock.pilot))
    body = lock.eval_set.body()
    key = next((key for key, known in held if known == body), None)
    if key is None:
        key = store.append(DocKind.EVALSET, pilot_scope(lock.pilot), body)
    document = {
        "spec": lock.spec.fingerprint,
        "by": lock.by,
        "at": lock.at,
        "note": lock.note,
        "pilot": lock.pilot,
        "version": lock.version,
        "rows": lock.rows,
        "good": lock.good,
        "share": lock.share,
        "eval_set": lock.eval_set.version,
        "eval_set_document": key,
        "scorers": dict(scorers),
        "gate": gate.document(),
        "grade": grade.document(),
    }
    store.put(DocKind.LOCK, lock.spec.fingerprint, json.dumps(document, sort_keys=True).encode())


def read_lock(store: DocumentStore, spec: Spec[T]) -> Lock[T] | None:
    """Give the lock of a spec; None where nobody accepted it."""
    body = store.get(DocKind.LOCK, spec.fingerprint)
    if body is None:
        return None
    held = json.loads(body)
    evals = store.get(DocKind.EVALSET, held["eval_set_document"]) or b""
    return Lock(
        spec=spec,
        eval_set=EvalSet.of_body(evals, spec.contract, where=f"eval set {held['eval_set']}"),
        **{name: held[name] for name in ("by", "at", "note", "pilot", "version", "rows", "good")},
    )
