"""Rows to be judged as a file and back: CSV for spreadsheets, JSON lines for programs.

Every line carries, beside its key, what its row showed and what its editable cells held when it was written. So an
answer can never land on another row or on another answer than the one that was read, and a line that nobody
touched is told from one that was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from batchkit import schema as shapes
from batchkit.errors import UsageError
from batchkit.files import cell_text, read_csv, write_csv, write_jsonl

if TYPE_CHECKING:
    from batchkit.review import ReviewRow

MAX_CELL: Final = 30_000
"""Characters of a source cell; spreadsheets take 32,767 and cut the rest silently."""

_OUTPUT: Final = "output."
_SOURCE: Final = "source."
_LEADING: Final = ("key", "shown", "verdict", "note", "by", "reason", "detail", "tags", "why", "answer")


@attrs.frozen(kw_only=True)
class Sheet:
    """What a file of answers is made for: the shape of an answer, and the verdicts that are possible."""

    schema: Mapping[str, Any] = attrs.field(repr=False)
    verdicts: tuple[str, ...]


@attrs.frozen(kw_only=True)
class SheetLine:
    """One line of a file that came back.

    Attributes:
        key: The row's key.
        stamp: What the row showed when the file was written; empty where that is gone.
        verdict: The verdict cell.
        output: The whole answer of a JSON line; None in CSV.
        cells: The answer's cells by field, as text; empty in JSON lines.
        note: The note cell.
        by: The name in the file.
        tier: Where a row is sent back to, if the file says so.
        line: Counted from 1, the header included.
        touched: Whether any editable cell is another than when the file was written.
        digest: A hash of what the line says; the same line has the same.
        wrong: Why the line cannot be read; empty where it can.
    """

    key: str
    stamp: str = ""
    verdict: str = ""
    output: Mapping[str, Any] | None = None
    cells: Mapping[str, str] = attrs.field(factory=dict)
    note: str = ""
    by: str = ""
    tier: int | None = None
    line: int
    touched: bool = True
    digest: str = ""
    wrong: str = ""

    def decision(self, row: ReviewRow, sheet: Sheet) -> tuple[str, Mapping[str, Any] | None]:
        """Give the verdict and the output that the line means for the row it was written for.

        Raises:
            UsageError: the cells cannot be read, or contradict the verdict.
        """
        changed = self._changed(row, sheet)
        moved = self.verdict and self.verdict != row.verdict
        if changed is not None:
            if moved and self.verdict not in {"answer", "accept", "edit"}:
                raise UsageError(
                    f"the answer was changed and the verdict is {self.verdict!r}: which is meant?"
                )
            return "edit", changed
        if self.verdict in {"answer", "edit"} and moved:
            if row.output is not None and self.verdict == "answer":
                return "accept", None
            raise UsageError(f"the verdict is {self.verdict!r}, and nothing of the answer was changed")
        if not self.verdict:
            raise UsageError("there is a note and no verdict")
        return self.verdict, None

    def _changed(self, row: ReviewRow, sheet: Sheet) -> Mapping[str, Any] | None:
        before = dict(row.output or {})
        if self.output is not None:
            return self.output if self.output != before else None
        changed = dict(before)
        for name, cell in self.cells.items():
            if _tidy(cell) != _tidy(_cell(before.get(name))):
                changed[name] = _value(cell, name, sheet.schema)
        if changed == before:
            return None
        for name in shapes.fields(sheet.schema):
            # A field that was never there is read from its cell, blank or not.
            if name not in changed and name in self.cells:
                changed[name] = _value(self.cells[name], name, sheet.schema)
        return changed


def write_sheet(
    path: str | os.PathLike[str],
    rows: Iterable[ReviewRow],
    sheet: Sheet,
    *,
    limit: int | None = None,
    reviewer: str | None = None,
) -> int:
    """Write rows as ``.csv`` or ``.jsonl`` and give their number."""
    some = islice(rows, limit)
    match Path(path).suffix.lower():
        case ".csv":
            return _write_csv(path, some, sheet, reviewer or "")
        case ".jsonl" | ".ndjson":
            return write_jsonl(path, (_json_line(row, reviewer or "") for row in some))
        case _:
            raise UsageError(f"cannot write {Path(path).name!r}: the suffix must be .csv or .jsonl")


def read_sheet(path: str | os.PathLike[str], sheet: Sheet) -> list[SheetLine]:
    """Read a file that :func:`write_sheet` wrote and a person filled in.

    Raises:
        UsageError: there is no such file, or its columns are not those of an answer sheet.
    """
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"there is no file {os.fspath(path)!r}")
    match file.suffix.lower():
        case ".csv":
            return list(_read_csv(file, sheet))
        case ".jsonl" | ".ndjson":
            return list(_read_jsonl(file))
        case _:
            raise UsageError(f"cannot read {file.name!r}: the suffix must be .csv or .jsonl")


# -------------------------------------------------------------------- CSV


def _write_csv(path: str | os.PathLike[str], rows: Iterable[ReviewRow], sheet: Sheet, reviewer: str) -> int:
    listed = list(rows)
    fields = shapes.fields(sheet.schema)
    names = list(dict.fromkeys(name for row in listed for name in row.source))
    columns = [*_LEADING, *(_SOURCE + name for name in names), *(_OUTPUT + name for name in fields)]
    return write_csv(path, columns, (_csv_line(row, fields, reviewer) for row in listed))


def _csv_line(row: ReviewRow, fields: Sequence[str], reviewer: str) -> dict[str, object]:
    cells = {name: _cell((row.output or {}).get(name)) for name in fields}
    line: dict[str, object] = {
        "key": row.key,
        "shown": f"{row.stamp}.{_hash(row.verdict, '', cells)}",
        "verdict": row.verdict,
        "note": "",
        "by": reviewer,
        "reason": row.reason.value if row.reason else "",
        "detail": row.detail[:MAX_CELL],
        "tags": " ".join(row.tags),
        "why": row.why,
        # The text of an answer that has no cells of its own.
        "answer": _readable((row.answer or "")[:MAX_CELL]) if row.output is None else "",
    }
    line.update((_SOURCE + name, _readable((value or "")[:MAX_CELL])) for name, value in row.source.items())
    line.update((_OUTPUT + name, cell) for name, cell in cells.items())
    return line


def _read_csv(file: Path, sheet: Sheet) -> Iterator[SheetLine]:
    for number, row in enumerate(read_csv(file), 2):
        if number == 2 and not {"key", "shown", "verdict"} <= row.keys():
            raise UsageError(
                f"{file.name} is no answer sheet: it needs the columns key, shown and verdict; it has {', '.join(row)}"
            )
        cells = {name: row[_OUTPUT + name] for name in shapes.fields(sheet.schema) if _OUTPUT + name in row}
        verdict, note = row["verdict"].strip().lower(), row.get("note", "").strip()
        stamp, _, written = row["shown"].strip().rpartition(".")
        digest = _hash(verdict, note, cells)
        yield SheetLine(
            key=row["key"],
            stamp=stamp,
            verdict=verdict,
            cells=cells,
            note=note,
            by=row.get("by", "").strip(),
            line=number,
            touched=digest != written,
            digest=_hash(row["key"], row["shown"], digest),
        )


def _cell(value: Any) -> str:
    """Give a value as a cell: a list of texts one per line, so that people can edit it."""
    plain = isinstance(value, list) and all(isinstance(item, str) and _one_line(item) for item in value)
    return _readable("\n".join(value) if plain else cell_text(value))


def _one_line(item: str) -> bool:
    return bool(item) and item == item.strip() and not item.startswith("[") and len(item.splitlines()) == 1


def _readable(text: str) -> str:
    """Give what every CSV reader takes: NUL and lone surrogates are shown, not kept."""
    return text.replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()


def _value(cell: str, name: str, schema: Mapping[str, Any]) -> Any:
    """Read a cell that a person changed, by the type of its field.

    Raises:
        UsageError: it should be JSON and is not.
    """
    branches = shapes.branches(schema, name)
    kinds = {kind for node in branches for kind in _kinds(node)}
    text = cell.replace("\r\n", "\n").strip()
    if "null" in kinds and (not text or (text.lower() == "null" and "string" not in kinds)):
        return None
    allowed = shapes.enums(schema).get(name, ())
    if allowed:
        by_text = {cell_text(value): value for value in allowed if value is not None}
        return by_text.get(text, None if text.lower() == "null" and None in allowed else text)
    if "array" in kinds and not text.startswith("["):
        return [item.strip() for item in text.split("\n") if item.strip()]
    if "string" in kinds:
        return text
    try:
        return json.loads(text.lower() if "boolean" in kinds else text)
    except ValueError:
        raise UsageError(f"{name}: {text[:40]!r} is no {' or '.join(sorted(kinds))}") from None


def _kinds(node: Mapping[str, Any]) -> list[str]:
    if "enum" in node or "const" in node:
        return ["enum"]
    kind = node.get("type", "object")
    return kind if isinstance(kind, list) else [kind]


def _tidy(cell: str) -> str:
    """Forgive what spreadsheets do to a cell nobody touched: line ends, blanks at its end."""
    return "\n".join(
        line.rstrip() for line in cell.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    ).strip()


# -------------------------------------------------------------------- JSON lines


def _json_line(row: ReviewRow, reviewer: str) -> dict[str, object]:
    output = None if row.output is None else dict(row.output)
    return {
        "key": row.key,
        "shown": f"{row.stamp}.{_hash(row.verdict, '', output)}",
        "verdict": row.verdict,
        "output": output,
        "note": "",
        "by": reviewer,
        "reason": row.reason.value if row.reason else None,
        "detail": row.detail,
        "tags": list(row.tags),
        "why": row.why,
        "source": dict(row.source),
        "answer": row.answer if row.output is None else None,
    }


def _read_jsonl(file: Path) -> Iterator[SheetLine]:
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if line.strip():
            yield _of_json(line, number)


def _of_json(text: bytes, number: int) -> SheetLine:
    try:
        line = json.loads(text)
    except ValueError as error:
        return SheetLine(key="", line=number, wrong=f"the line is no JSON: {error}")
    if not isinstance(line, dict) or not isinstance(line.get("key"), str):
        return SheetLine(key="", line=number, wrong="the line is no object with a key")
    output, tier = line.get("output"), line.get("tier")
    if not isinstance(output, (dict, type(None))):
        return SheetLine(key=line["key"], line=number, wrong="output is an object or null")
    if not (tier is None or isinstance(tier, int)):
        return SheetLine(key=line["key"], line=number, wrong="tier is a number")
    verdict, note = str(line.get("verdict") or "").strip().lower(), str(line.get("note") or "").strip()
    stamp, _, written = str(line.get("shown") or "").rpartition(".")
    digest = _hash(verdict, note, output)
    return SheetLine(
        key=line["key"],
        stamp=stamp,
        verdict=verdict,
        output=output,
        note=note,
        by=str(line.get("by") or ""),
        tier=tier,
        line=number,
        touched=digest != written,
        digest=_hash(line["key"], line.get("shown"), digest, tier),
    )


def _hash(*said: object) -> str:
    def tidied(value: object) -> object:
        if isinstance(value, str):
            return _tidy(value)
        return {k: tidied(v) for k, v in value.items()} if isinstance(value, dict) else value

    text = json.dumps([tidied(value) for value in said], sort_keys=True, ensure_ascii=True)
    return sha256(text.encode()).hexdigest()[:12]
