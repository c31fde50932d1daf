"""The eval set: rows with the answers that people expect, as a file that is reviewed like code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Generic, Protocol

import attrs
from typing_extensions import TypeVar

from batchkit.contract import Contract
from batchkit.errors import UsageError
from batchkit.files import replacing
from batchkit.grading import VERDICTS, Case, Grade, Verdict, grade_cases
from batchkit.prompt import Example
from batchkit.reasons import Reason
from batchkit.scorers import Score, chosen_scorers
from batchkit.spec import canonical

T = TypeVar("T", default=Any)

FORMAT: Final = 1
_KIND: Final = "evalset"


@attrs.frozen(kw_only=True)
class EvalRow:
    """One row with what a person said of it.

    ``expected`` is the right answer as plain JSON values; None where nobody gave one. ``verdict`` "accept" without
    an expected answer says that having none is right. ``not_this`` is the answer that was rejected.
    """

    key: str
    source: Mapping[str, str | None] = attrs.field(hash=False)
    expected: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    verdict: Verdict = attrs.field(validator=attrs.validators.in_(VERDICTS))
    by: str = ""
    at: float = 0.0
    note: str = ""
    tags: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    not_this: Mapping[str, Any] | None = attrs.field(default=None, hash=False)

    @property
    def silent(self) -> bool:
        """Tell whether having no answer is right."""
        return self.verdict == "accept" and self.expected is None


class Answered(Protocol):
    """What grading needs of a run's row."""

    @property
    def key(self) -> str:
        """The record's key."""
        ...

    @property
    def output(self) -> Any:
        """The valid answer, None where there is none."""
        ...

    @property
    def reason(self) -> Reason | None:
        """Why there is none."""
        ...

    @property
    def answer(self) -> str | None:
        """The answer's text."""
        ...


@attrs.frozen(kw_only=True)
class EvalDiff:
    """How one eval set differs from another, by key."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is a difference."""
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        """Count and name the rows."""
        parts = [
            f"{what} {len(keys)}: {', '.join(keys[:10])}{' …' if len(keys) > 10 else ''}"
            for what, keys in (("added", self.added), ("removed", self.removed), ("changed", self.changed))
            if keys
        ]
        return "; ".join(parts) or "no difference"


@attrs.frozen(kw_only=True)
class EvalSet(Generic[T]):
    """Rows with the answers that people expect, for one contract.

    Attributes:
        name: What it is called; the pilot's name.
        contract: What a valid answer is.
        rows: The rows, each key once.
        counter: Counts the versions of this name.
        scorers: How fields are compared, by name, where it is not by their type.
    """

    name: str
    contract: Contract[T]
    rows: tuple[EvalRow, ...] = attrs.field(converter=tuple[EvalRow, ...])
    counter: int = 1
    scorers: Mapping[str, str] = attrs.field(factory=dict, hash=False)

    def __attrs_post_init__(self) -> None:
        keys = [row.key for row in self.rows]
        if len(set(keys)) != len(keys):
            twice = sorted(key for key in set(keys) if keys.count(key) > 1)
            raise UsageError(f"eval set {self.name!r}: {len(twice)} keys stand there twice: {twice[0]!r} …")

    # ---------------------------------------------------------------- reading

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[EvalRow]:
        """Give the rows."""
        return iter(self.rows)

    def __getitem__(self, key: str) -> EvalRow:
        """Give the row of a key.

        Raises:
            UsageError: there is none.
        """
        for row in self.rows:
            if row.key == key:
                return row
        raise UsageError(f"eval set {self.name!r} has no row {key!r}; it has {len(self.rows)} others")

    @property
    def digest(self) -> str:
        """Give the SHA-256 of what it says: name, contract, scorers and rows, not the counter."""
        return sha256(canonical([self._header(), *map(_line, self.rows)])).hexdigest()

    @property
    def version(self) -> str:
        """Give the counter and the beginning of the digest: ``3-91c07d4e02ab``."""
        return f"{self.counter}-{self.digest[:12]}"

    def outputs(self) -> Iterator[Mapping[str, Any]]:
        """Give every expected answer as plain JSON values."""
        return (row.expected for row in self.rows if row.expected is not None)

    def expected(self, key: str) -> T | None:
        """Give the expected answer of a row in the contract's type, None where there is none."""
        found = self[key].expected
        return None if found is None else self.contract.load(json.dumps(found))

    def example(self, key: str) -> Example:
        """Make an example for a prompt of a row and its expected answer.

        Raises:
            UsageError: there is no such row, or nobody gave an answer for it.
        """
        row = self[key]
        if row.expected is None:
            raise UsageError(f"row {key!r} has no expected answer, so it cannot be an example")
        return Example(row.source, row.expected, key=key)

    def diff(self, other: EvalSet[Any]) -> EvalDiff:
        """Tell how this set differs from an earlier one; reads from ``other`` to this."""
        return compare_rows(self.rows, other.rows)

    # ---------------------------------------------------------------- grading

    def grade(self, rows: Iterable[Answered], *, scorers: Mapping[str, Score] = {}) -> Grade:
        """Compare a run's answers with the expected ones.

        Args:
            rows: a run's rows, or a pilot's version. Rows of other keys are passed over.
            scorers: comparisons by field, ``fn(expected, actual, row) -> bool or float``, that replace the set's own.

        Raises:
            UsageError: a scorer is of a field that does not exist, or the set was graded by one that must be passed.
        """
        chosen = chosen_scorers(self.contract.schema, named=self.scorers, given=scorers)
        mine = {row.key: row for row in self.rows}
        cases = [self.case(mine[row.key], row) for row in rows if row.key in mine]
        return grade_cases(cases, chosen)

    def case(self, row: EvalRow, answered: Answered) -> Case:
        """Put what is expected beside what was answered."""
        return Case(
            key=row.key,
            source=row.source,
            tags=row.tags,
            expected=row.expected,
            actual=plain_answer(answered, self.contract),
            silent=row.silent,
            hushed=answered.reason is Reason.INPUT_SPARSE,
            not_this=row.not_this,
        )

    # ---------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON lines: a header, then one line per row. The file is replaced whole."""
        with replacing(path) as stream:
            stream.write(self.body())

    def body(self) -> bytes:
        """Give the file's bytes."""
        lines = [{**self._header(), "counter": self.counter}, *map(_line, self.rows)]
        return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)

    @classmethod
    def load(cls, path: str | os.PathLike[str], contract: Contract[T]) -> EvalSet[T]:
        """Read a file that :meth:`save` wrote, perhaps changed by hand since.

        Raises:
            UsageError: there is no such file, it is no eval set, it is of another contract, or an expected answer
                breaks the contract. The message names the line.
        """
        file = Path(path)
        if not file.is_file():
            raise UsageError(f"there is no file {os.fspath(path)!r}")
        return cls.of_body(file.read_bytes(), contract, where=file.name)

    @classmethod
    def of_body(cls, body: bytes, contract: Contract[T], *, where: str) -> EvalSet[T]:
        """Read the bytes that :meth:`body` gave; errors are those of :meth:`load`."""
        header, found = read_evalset(body, where)
        theirs, ours = header.get("contract"), contract_fingerprint(contract)
        if theirs != ours:
            raise UsageError(
                f"{where} was judged under contract {str(theirs)[:6]}, this code's is {ours[:6]}: its schema, rules or "
                "their versions differ, so what was accepted then may be wrong now. Load it with the contract it was "
                "made with, or run and judge a pilot of this one."
            )
        made = cls(
            name=str(header.get("name", "")),
            contract=contract,
            rows=tuple(row for _, row in found),
            counter=int(header.get("counter", 1)),
            scorers=dict(header.get("scorers") or {}),
        )
        for n, row in found:
            if row.expected is not None:
                # As text: an answer that says "too little is known" may be the right one, and no rule is asked of it.
                wrong = contract.check(canonical(row.expected), row.source)
                if wrong.reason not in {None, Reason.OUTPUT_SPARSE}:
                    raise UsageError(
                        f"{where}, line {n}: row {row.key!r}: the expected answer breaks the contract: "
                        f"{wrong.reason} {wrong.detail}"
                    )
        return made

    def _header(self) -> dict[str, Any]:
        return {
            "batchkit": _KIND,
            "format": FORMAT,
            "name": self.name,
            "contract": contract_fingerprint(self.contract),
            "scorers": dict(self.scorers),
        }

    def __repr__(self) -> str:
        """Name it and count its rows."""
        return f"EvalSet({self.name!r}, version {self.version}, {len(self.rows)} rows)"


def contract_fingerprint(contract: Contract[Any]) -> str:
    """Give the SHA-256 of what stands for a contract: its schema, its functions by name and version."""
    return sha256(canonical(contract.identity)).hexdigest()


def read_evalset(body: bytes, where: str) -> tuple[Mapping[str, Any], list[tuple[int, EvalRow]]]:
    """Give the header of an eval set's file and its rows with their lines' numbers; no contract is asked.

    Raises:
        UsageError: it is no eval set, or a line is none of its rows. The message names the line.
    """
    lines = [(n, line) for n, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    header = _object(lines[0][1], where, 1) if lines else {}
    if header.get("batchkit") != _KIND or header.get("format") != FORMAT:
        raise UsageError(
            f"{where} is no eval set of batchkit's format {FORMAT}: its first line does not say so"
        )
    return header, [(n, _eval_row(_object(line, where, n), where, n)) for n, line in lines[1:]]


def compare_rows(new: Iterable[EvalRow], old: Iterable[EvalRow]) -> EvalDiff:
    """Tell by key which rows were added, removed or say something else."""
    now = {row.key: row for row in new}
    then = {row.key: row for row in old}
    return EvalDiff(
        added=tuple(key for key in now if key not in then),
        removed=tuple(key for key in then if key not in now),
        changed=tuple(key for key, row in now.items() if key in then and _said(row) != _said(then[key])),
    )


def plain_answer(answered: Answered, contract: Contract[Any] | None) -> Mapping[str, Any] | None:
    """Give a row's answer as plain JSON values: the valid one, or the one that says the record is too sparse."""
    if answered.output is not None:
        if contract is not None:
            return contract.dump(answered.output)
        return answered.output if isinstance(answered.output, Mapping) else None
    if answered.reason is not Reason.OUTPUT_SPARSE or answered.answer is None:
        return None
    plain = json.loads(answered.answer)
    return plain if isinstance(plain, dict) else None


def _line(row: EvalRow) -> dict[str, Any]:
    line: dict[str, Any] = {
        "key": row.key,
        "source": dict(row.source),
        "expected": None if row.expected is None else dict(row.expected),
        "verdict": row.verdict,
        "by": row.by,
        "at": row.at,
        "note": row.note,
        "tags": list(row.tags),
    }
    return line if row.not_this is None else {**line, "not_this": dict(row.not_this)}


def _said(row: EvalRow) -> tuple[Any, ...]:
    return row.verdict, row.expected, row.not_this, dict(row.source)


def _object(line: bytes, where: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{where}, line {number} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{where}, line {number} is no JSON object")
    return value


def _eval_row(line: Mapping[str, Any], where: str, number: int) -> EvalRow:
    try:
        expected, not_this = line.get("expected"), line.get("not_this")
        if not isinstance(line["key"], str) or not isinstance(line["source"], dict):
            raise TypeError("key is text and source an object")
        if not isinstance(expected, (dict, type(None))) or not isinstance(not_this, (dict, type(None))):
            raise TypeError("answers are objects or null")
        return EvalRow(
            key=line["key"],
            source=line["source"],
            expected=expected,
            verdict=line["verdict"],
            by=str(line.get("by", "")),
            at=float(line.get("at", 0)),
            note=str(line.get("note", "")),
            tags=tuple(map(str, line.get("tags", ()))),
            not_this=not_this,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{where}, line {number} is no row of an eval set: {error}") from error
