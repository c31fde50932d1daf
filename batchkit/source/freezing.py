"""Freezing: each record becomes one canonical line, with what has to be known of it before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

from pydantic_core import to_json

from batchkit import normal
from batchkit.builder import MAX_BODY, RequestBuilder
from batchkit.errors import KeyTypeError
from batchkit.ids import ResultId, RowKey
from batchkit.model import PAGE, SourceRow
from batchkit.reasons import Reason
from batchkit.source.origin import Record, Source
from batchkit.source.readers import Damaged
from batchkit.spec import Spec
from batchkit.states import RowEvent

_new: Final[Any] = tuple.__new__

Fields: TypeAlias = dict[str, str | None]
Staged: TypeAlias = Callable[[Sequence[SourceRow]], Sequence["ResultId | None"]]
"""Gives for each record the result that was last staged for its key, if that came of the same content and spec."""


def source_line(position: int, key: RowKey, fields: Mapping[str, str | None]) -> bytes:
    """Give a record's canonical JSON, ``[position, key, {field: text or null}]``; key null where it has none."""
    return to_json([position, key or None, dict(sorted(fields.items()))])


class Freezer:
    """Turns records into rows for the store: text, key, canonical line, size, and the first verdict.

    Every record becomes exactly one row. What cannot be sent is kept under its position with a reason:
    ``input.missing_key``, ``input.unencodable`` (detail: each field and what it holds; such a field is
    frozen as null, text with lone surrogates with each spelled out), ``input.too_large``, ``input.sparse``.
    """

    def __init__(
        self,
        spec: Spec[Any],
        *,
        builder: RequestBuilder[Any],
        incremental: Staged | None = None,
        max_bytes: int = MAX_BODY,
    ) -> None:
        """Prepare to freeze rows for a spec.

        Args:
            spec: Says which fields are used and what its contract calls sparse.
            builder: Of the same spec; measures the text of each row.
            incremental: Asked for every page of rows that could be answered; a result it gives marks the row as unchanged.
            max_bytes: The longest body that may be sent, for one request alone.
        """
        self._key = spec.key
        self._names = tuple(sorted(spec.used_fields))
        self._check = spec.check_fields
        self._sparse = spec.contract.sparse_row if spec.contract.tells_sparse else None
        self._builder = builder
        self._staged = incremental
        self._room = builder.room(max_bytes=max_bytes)
        self._beyond = builder.beyond_text(self._names)

    def pages(self, source: Source | Iterable[Record]) -> Iterator[list[SourceRow]]:
        """Freeze all records, PAGE at a time; only the last page may be shorter, and none is empty.

        Raises:
            MissingField: the spec uses a field that no record of the first page has.
            KeyTypeError: the key column holds floats or booleans.
            UsageError: what the source raises when it cannot be read.
        """
        known = source.fields if isinstance(source, Source) else None
        if known is not None:
            self._check(known)
        records = iter(source)
        position = 0
        while page := list(islice(records, PAGE)):
            if position == 0 and known is None:
                self._check_fields(page)
            frozen = [self.freeze(position + offset, record) for offset, record in enumerate(page)]
            yield frozen if self._staged is None else self._compared(frozen, self._staged)
            position += len(page)

    def _check_fields(self, page: list[Record]) -> None:
        whole = [record for record in page if not isinstance(record, Damaged)]
        if whole:
            self._check({str(name) for record in whole for name in record})

    def freeze(self, position: int, record: Record) -> SourceRow:
        """Freeze one record.

        Raises:
            KeyTypeError: its key is a float or a boolean.
        """
        if isinstance(record, Damaged):
            return self._refused(position, record, [record.detail])
        fields: Fields = {}
        full = True
        for name in self._names:
            value = record.get(name)
            if type(value) is not str:
                try:
                    value = normal.text(value)
                except normal.Unencodable:
                    return self._refused(position, record, [])
            if not value or value.isspace():
                full = False
            fields[name] = value
        try:
            key = record.get(self._key)
            if type(key) is not str or key.isspace():
                key = normal.key_text(key, column=self._key, position=position)
            body = to_json(fields)
            line = b"[%d,%b,%b]" % (position, to_json(key or None), body)
        except ValueError as error:
            if isinstance(error, KeyTypeError):
                raise
            return self._refused(position, record, [])
        key = RowKey(key)
        beyond = self._beyond
        size = len(body) - beyond if full and beyond is not None else self._builder.text_size(fields)
        if not key:
            return SourceRow(
                position,
                key,
                line,
                size,
                RowEvent.INPUT_REFUSED,
                Reason.INPUT_MISSING_KEY,
                f"no {self._key!r}",
            )
        if size > self._room:
            detail = f"{size:,} bytes of text, where a request has room for {self._room:,}"
            return SourceRow(
                position, key, line, size, RowEvent.INPUT_REFUSED, Reason.INPUT_TOO_LARGE, detail
            )
        if self._sparse is not None and self._sparse(fields):
            return SourceRow(position, key, line, size, RowEvent.INPUT_SPARSE, Reason.INPUT_SPARSE)
        # The positional form, past the generated __new__: this runs for every record.
        frozen: SourceRow = _new(SourceRow, (position, key, line, size, RowEvent.FROZEN, None, "", None))
        return frozen

    def _compared(self, page: list[SourceRow], staged: Staged) -> list[SourceRow]:
        """Mark what was staged before as unchanged; a person may have answered what says too little."""
        asked = [
            n
            for n, row in enumerate(page)
            if row.event is RowEvent.FROZEN or row.event is RowEvent.INPUT_SPARSE
        ]
        for n, result in zip(asked, staged([page[n] for n in asked]), strict=True):
            if result is not None:
                page[n] = SourceRow(*page[n][:4], RowEvent.UNCHANGED, result=result)
        return page

    def _refused(self, position: int, record: Record, flaws: list[str]) -> SourceRow:
        """Freeze a record that cannot be sent: what has text keeps it, and the detail names the rest."""
        fields: Fields = {}
        for name in self._names:
            value = record.get(name)
            try:
                fields[name] = normal.text(value)
            except normal.Unencodable as error:
                fields[name] = normal.escaped(value)
                flaws.append(f"field {name!r} holds {error}")
        key, bad_key = self._any_key(position, record)
        if bad_key:
            flaws.insert(0, bad_key)
        missing = not key and not bad_key and not isinstance(record, Damaged)
        return SourceRow(
            position,
            key,
            to_json([position, key or None, fields]),
            self._builder.text_size(fields),
            RowEvent.INPUT_REFUSED,
            Reason.INPUT_MISSING_KEY if missing else Reason.INPUT_UNENCODABLE,
            "; ".join(flaws),
        )

    def _any_key(self, position: int, record: Record) -> tuple[RowKey, str]:
        value = record.get(self._key)
        try:
            return RowKey(normal.key_text(value, column=self._key, position=position)), ""
        except normal.Unencodable as error:
            return RowKey(normal.escaped(value) or ""), f"key {self._key!r} holds {error}"
