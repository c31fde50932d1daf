"""Requests out: a row's request as bytes, the same bytes for the same (spec, row, tier, step, nonce)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import groupby
from operator import add
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import attrs
from pydantic_core import to_json

from batchkit import normal
from batchkit.alike import AlikeRows
from batchkit.body import CLOSING, OPENING
from batchkit.encoding import quoted
from batchkit.errors import MissingField, UsageError
from batchkit.frozen import FrozenFields
from batchkit.ids import CustomId, Nonce, RowKey
from batchkit.model import RowView
from batchkit.parameters import opened, request_params
from batchkit.planner import API_BYTES
from batchkit.policy import Retry
from batchkit.prompt import Prompt
from batchkit.spec import Spec, StoredSpec
from batchkit.splice import NEVER, Splice
from batchkit.textsizes import TextSizes, text_size

T = TypeVar("T")

MAX_BODY: Final = API_BYTES
"""The most bytes of one batch's body."""

_ENVELOPE: Final = len(OPENING) + len(CLOSING)
_NONCE: Final = re.compile(r"[a-z2-7]{8}")
_WIDTH: Final = 8
_ID_LENGTH: Final = 64
_HASHED: Final = "x-"
"""How a hashed key part begins. A key that begins so itself is hashed too, so the two never meet."""

_DIGITS: Final = 24
_SHOWN: Final = 2_000
"""Characters of a violation that are shown to the model."""

_TAIL: Final = b"}]}}"
_SPLICES: Final = 8
"""Splices kept: a batch has one a tier."""

_Way: TypeAlias = "tuple[int, Retry | None]"


@attrs.frozen(kw_only=True)
class Request:
    """One element of a batch's ``requests``, encoded."""

    custom_id: CustomId
    body: bytes

    @property
    def params(self) -> dict[str, Any]:
        """The request's parameters, decoded."""
        params: dict[str, Any] = json.loads(self.body)["params"]
        return params


class RequestBuilder(Generic[T]):
    """Makes the requests of a spec. Pure: it draws no nonce and reads no clock."""

    def __init__(
        self, spec: Spec[T] | StoredSpec, *, schema: Mapping[str, Any] | None = None, opaque: bool = False
    ) -> None:
        """Encode what all rows share.

        Args:
            spec: What is sent; one read back from a store does.
            schema: The wire schema of the contract. None sends no ``output_config.format`` and spells the
                schema out in the prompt instead.
            opaque: Hash every key in custom ids, for keys that the provider should not see. A hash hides
                a key only from those who cannot guess it.
        """
        self._spec = spec
        self._schema = schema
        self._opaque = opaque
        self._room = _ID_LENGTH - len(spec.prefix) - 1 - _WIDTH
        self._literal = re.compile(rf"(?!{_HASHED})[A-Za-z0-9_-]{{1,{self._room}}}")
        self._literals = re.compile(f"{self._literal.pattern}(?:,{self._literal.pattern})*")
        self._id = re.compile(
            rf"{re.escape(spec.prefix)}([A-Za-z0-9_-]{{1,{self._room}}})-({_NONCE.pattern})"
        )
        self._open = b'{"custom_id":"' + spec.prefix.encode()
        self._prompts: tuple[Prompt, ...] = tuple(map(spec.prompt_of, range(len(spec.tiers))))
        self._heads: dict[_Way, bytes] = {}
        self._first_sizes: dict[int, int] = {}
        self._splices: dict[tuple[int, Nonce], Splice] = {}
        self._texts = TextSizes(self._prompts[0])

    @property
    def spec(self) -> Spec[T] | StoredSpec:
        """The spec whose requests these are."""
        return self._spec

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the prompts of the tiers use, sorted."""
        return tuple(sorted({name for prompt in self._prompts for name in prompt.fields}))

    def key_part(self, key: RowKey) -> str:
        """Give the part of a custom id that stands for a key: the key itself where it fits, else slug and hash.

        Different keys have different parts: a literal part never begins as hashed ones do, and hashed ones
        carry 96 bits of SHA-256.
        """
        if not self._opaque and self._literal.fullmatch(key):
            return key
        digest = sha256(key.encode("utf-8", "backslashreplace")).hexdigest()[:_DIGITS]
        room = self._room - len(_HASHED) - 1 - _DIGITS
        slug = re.sub(r"[^A-Za-z0-9]+", "-", key[: 4 * room]).strip("-")[:room].strip("-")
        return f"{_HASHED}{slug}-{digest}" if slug and not self._opaque else _HASHED + digest

    def custom_id(self, key: RowKey, nonce: Nonce) -> CustomId:
        """Give the custom id of a key in the batch of this nonce."""
        return CustomId(f"{self._spec.prefix}{self.key_part(key)}-{nonce}")

    def custom_ids(self, keys: Sequence[RowKey], nonce: Nonce) -> list[CustomId]:
        """Give the custom ids of many keys in the batch of this nonce."""
        prefix, part = self._spec.prefix, self.key_part
        # No literal key has a comma in it, so all ids can be written as one text and cut at its commas.
        parts = keys if self._all_literal(keys) else [part(key) for key in keys]
        ids = f"{prefix}{f'-{nonce},{prefix}'.join(parts)}-{nonce}".split(",") if keys else []
        return cast("list[CustomId]", ids)

    def _all_literal(self, keys: Sequence[RowKey]) -> bool:
        """Tell whether every key stands for itself in custom ids."""
        joined = ",".join(keys)
        return (
            not self._opaque
            and joined.count(",") == len(keys) - 1
            and self._literals.fullmatch(joined) is not None
        )

    def parse(self, custom_id: str) -> tuple[str, Nonce] | None:
        """Split a custom id into key part and nonce; None where it is none of this spec's."""
        match = self._id.fullmatch(custom_id)
        return None if match is None else (match[1], Nonce(match[2]))

    def encode(self, row: RowView, nonce: Nonce) -> bytes:
        """Give the bytes of a pending row's next request: its tier, its retry step, its last violations if shown.

        Raises:
            UsageError: the row was read without its source fields, or the spec has no such tier.
        """
        if row.fields is None:
            raise UsageError("a row is encoded from its source fields; read it with source=True")
        step = None if row.reason is None else self._spec.policy.step(row.reason, row.tries)
        shown = "" if step is None else self._shown_of(row, step)
        return self._encoded(row.key, row.fields, nonce, (row.tier, step), shown)

    def encode_all(self, rows: Iterable[RowView], nonce: Nonce) -> list[bytes]:
        """Give what `encode` gives, for many rows of one batch.

        A first request is spliced out of the frozen line wherever that can be, without reading the record.
        """
        requests: list[bytes] = []
        for row in rows:
            fields = row.fields
            if row.reason is None and type(fields) is FrozenFields:
                splice = self._splices.get((row.tier, nonce)) or self._splice(row.tier, nonce, fields)
                line = fields.line
                found = splice.escaped(line) if b"\\" in line else splice.plain(line)
                if found is not None:
                    requests.append(splice.mold % found.group(*splice.order))
                    continue
            requests.append(self.encode(row, nonce))
        return requests

    def encode_joined(self, rows: Sequence[RowView], nonce: Nonce) -> bytes:
        """Give what `encode_all` gives, with commas between the requests.

        Neighbours that stand alike are spliced together, as far as they can be spliced at all.
        """
        if not isinstance(rows, AlikeRows) or rows.lines is None or rows.one.reason is not None:
            return b",".join(self.encode_all(rows, nonce))
        tier, lines = rows.one.tier, rows.lines
        splice = self._splices.get((tier, nonce)) or self._splice(tier, nonce, FrozenFields(lines[0]))
        whole = splice.joined(lines)
        if whole is not None:
            return whole
        parts: list[bytes] = []
        low = 0
        for usual, alike in groupby(map(splice.usual, lines)):
            high = low + len(list(alike))
            part = splice.joined(lines[low:high]) if usual else None
            parts.append(b",".join(self.encode_all(rows[low:high], nonce)) if part is None else part)
            low = high
        return b",".join(parts)

    def _splice(self, tier: int, nonce: Nonce, fields: FrozenFields) -> Splice:
        """Prepare for the records that have the fields of this one."""
        prompt = self._prompt(tier)
        if self._opaque or not fields.keys() >= set(prompt.gaps):
            return NEVER
        splice = Splice.make(
            prompt,
            tuple(fields),
            key=self._literal.pattern,
            nonce=nonce,
            before=self._open,
            after=self._head((tier, None)),
            end=_TAIL,
        )
        if len(self._splices) >= _SPLICES:
            self._splices.clear()
        self._splices[tier, nonce] = splice
        return splice

    def size(self, row: RowView) -> int:
        """Give ``len(encode(row, nonce))``, without rendering wherever the row's stored size tells it.

        Raises:
            UsageError: the row's tier has a template of its own and the row was read without its source fields.
        """
        # Nearly every row waits for its first answer, at a tier that renders it as the first one does.
        fixed = self._first_sizes.get(row.tier) if row.reason is None else None
        if fixed is not None:
            return fixed + len(self.key_part(row.key)) + row.size
        step = self._spec.policy.step(row.reason, row.tries)
        prompt, first = self._prompt(row.tier), self._prompts[0]
        alike = prompt.user == first.user and prompt.missing == first.missing
        if alike:
            text = row.size
        elif row.fields is None:
            raise UsageError(
                f"tier {row.tier} has a template of its own; read the row with source=True to size it"
            )
        else:
            text = text_size(prompt, row.fields)
        shown = self._shown_of(row, step)
        shown_size = len(quoted(shown)) - 2 if shown else 0
        fixed = self._fixed((row.tier, step)) + 1 + _WIDTH
        if alike and row.reason is None:
            self._first_sizes[row.tier] = fixed
        return fixed + len(self.key_part(row.key)) + text + shown_size

    def sizes(self, rows: Sequence[RowView]) -> list[int]:
        """Give what `size` gives, for many rows."""
        known, size, literal = self._first_sizes.get, self.size, self._literal.fullmatch
        if self._opaque:
            return [size(row) for row in rows]
        if isinstance(rows, AlikeRows) and rows.one.reason is None and self._all_literal(rows.keys):
            size(rows.one)
            if (fixed := known(rows.one.tier)) is not None:
                return [fixed + n for n in map(add, map(len, rows.keys), rows.sizes)]
        return [
            fixed + len(row.key) + row.size
            if row.reason is None and (fixed := known(row.tier)) is not None and literal(row.key)
            else size(row)
            for row in rows
        ]

    def text_size(self, fields: Mapping[str, str | None]) -> int:
        """Give the encoded length of a row's own text in the first tier, quotation marks not counted."""
        return self._texts.size(fields)

    def beyond_text(self, names: Collection[str]) -> int | None:
        """Give how many bytes longer a record's fields are, as JSON, than `text_size` where none is missing or blank.

        None where the first tier's template does not use each of these fields once.
        """
        gaps = self._prompts[0].gaps
        if len(gaps) != len(names) or set(gaps) != set(names):
            return None
        full = dict.fromkeys(names, "-")
        return len(to_json(full)) - self.text_size(full)

    def room(self, *, max_bytes: int = MAX_BODY) -> int:
        """Give how many bytes of text of its own a row may have, so that its first request fits a body alone."""
        longest = _ID_LENGTH - len(self._spec.prefix)
        return max_bytes - _ENVELOPE - longest - self._fixed((0, None))

    def build(
        self,
        row: RowView | Mapping[str, object],
        *,
        nonce: Nonce | str,
        tier: int = 0,
        step: Retry | None = None,
        shown: str = "",
    ) -> Request:
        """Build one request by itself, for a look or a test.

        Args:
            row: A stored row with its fields, or one record as the source has it.
            nonce: Eight characters of ``a-z2-7``.
            tier: Which tier of the spec.
            step: The retry step it runs under.
            shown: What was wrong with the previous answer, as the verdict says it; empty shows nothing.

        Raises:
            UsageError: a value has no text, a field or the key is missing, or the nonce is none.
        """
        if _NONCE.fullmatch(nonce) is None:
            raise UsageError(f"a nonce is eight characters of a-z and 2-7, not {nonce!r}")
        key, fields = (row.key, row.fields) if isinstance(row, RowView) else self._record(row)
        if fields is None:
            raise UsageError("a row is encoded from its source fields; read it with source=True")
        mark = Nonce(nonce)
        body = self._encoded(key, fields, mark, (tier, step), _told(shown) if shown else "")
        return Request(custom_id=self.custom_id(key, mark), body=body)

    def _encoded(
        self, key: RowKey, fields: Mapping[str, str | None], nonce: Nonce, way: _Way, shown: str
    ) -> bytes:
        head = self._head(way)
        text = self._prompts[way[0]].render(fields, nonce=nonce)
        mark = f"{self.key_part(key)}-{nonce}".encode()
        return b"".join((self._open, mark, head, to_json(text + shown if shown else text), _TAIL))

    def _fixed(self, way: _Way) -> int:
        """Give the length of everything but the row's key, the nonce and the row's text."""
        return len(self._open) + len(self._head(way)) + 2 + len(_TAIL)

    def _head(self, way: _Way) -> bytes:
        head = self._heads.get(way)
        if head is None:
            tier, step = way
            self._prompt(tier)
            static = self._spec.static(tier, show_schema=self._schema is None)
            params = request_params(self._spec.tiers[tier], step, static, self._schema)
            head = b'","params":' + opened(params) + b',"messages":[{"role":"user","content":'
            self._heads[way] = head
        return head

    def _prompt(self, tier: int) -> Prompt:
        if not 0 <= tier < len(self._prompts):
            raise UsageError(f"the spec has tiers 0 to {len(self._prompts) - 1}, not {tier}")
        return self._prompts[tier]

    def _shown_of(self, row: RowView, step: Retry | None) -> str:
        if step is None or not step.show_error:
            return ""
        # A resend keeps the reason of the answer before it, but its own detail is no violation; only answers have usage.
        detail = row.detail if row.usage is not None else ""
        return _told(detail or (row.reason.prose if row.reason is not None else ""))

    def _record(self, record: Mapping[str, object]) -> tuple[RowKey, dict[str, str | None]]:
        """Read a record as it comes from a source."""
        fields: dict[str, str | None] = {}
        for name in self.fields:
            if name not in record:
                raise MissingField(
                    f"the prompt uses {{{name}}}; the record has {', '.join(map(str, record))}"
                )
            try:
                fields[name] = normal.text(record[name])
            except normal.Unencodable as error:
                raise UsageError(f"field {name!r} holds {error}, which has no text") from None
        try:
            key = normal.key_text(record.get(self._spec.key), column=self._spec.key, position=0)
        except normal.Unencodable as error:
            raise UsageError(f"key {self._spec.key!r} holds {error}, which has no text") from None
        if not key:
            raise UsageError(f"the record has no key {self._spec.key!r}")
        return RowKey(key), fields


def _told(detail: str) -> str:
    """Say what was wrong with the previous answer. It is quoted as JSON, so it stays on its one line."""
    quote = detail if _is_json(detail) else json.dumps(detail[:_SHOWN], ensure_ascii=False)
    return (
        "\n\nYour previous answer for this record was rejected. What was wrong, as JSON: "
        f"{quote}\nAnswer again without that mistake."
    )


def _is_json(detail: str) -> bool:
    if len(detail) > _SHOWN or "\n" in detail:
        return False
    try:
        json.loads(detail)
    except ValueError:
        return False
    return True
