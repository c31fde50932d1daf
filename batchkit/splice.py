"""Requests spliced out of frozen lines: the text of a record goes out as it was written down, unread.

JSON escapes text character by character, so the escaped parts of a text, joined, are the escaped text. A
frozen line holds every field's text as the encoder of requests would escape it, and most records need
nothing else: their key stands for itself, and no field is missing or blank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from typing_extensions import Self

from batchkit.columns import interleaved, marked, unmarked
from batchkit.encoding import quoted
from batchkit.prompt import Prompt

__all__ = ["NEVER", "Splice"]

# The text of a field that is surely not blank: it begins with a visible ASCII character, unescaped.
_TEXT: Final = rb'([!#-\[\]-~][^"\\]*(?:\\.[^"\\]*)*)'
# The same where the whole line has no backslash: a third of the time.
_PLAIN: Final = rb'([!#-\[\]-~][^"]*)'


@attrs.frozen(kw_only=True)
class Table:
    """Frozen lines as columns: cut at their quotation marks, all at once, and written anew as requests.

    Attributes:
        keys: Matches keys that stand for themselves, with commas between them.
        names: The fields of a line as JSON, without quotation marks.
        order: The columns of a request: 1 is the key, 2 the first field.
        literals: What stands before, between and behind them.
    """

    keys: Callable[[bytes], re.Match[bytes] | None]
    names: Sequence[bytes]
    order: Sequence[int]
    literals: Sequence[bytes]

    @property
    def width(self) -> int:
        """Count the quotation marks of a line."""
        return 2 + 4 * len(self.names)

    def joined(self, lines: Sequence[bytes]) -> bytes | None:
        """Give the requests of the lines with commas between them; None unless each line can be spliced."""
        text = b"\n".join(lines)
        escaped = b"\\" in text
        if escaped:
            text = marked(text)
            if b'"\\' in text:
                return None  # a text that begins with an escape may be blank
        count, width = len(lines), self.width
        pieces = text.split(b'"')
        if len(pieces) != count * width + 1:
            return None
        columns = self._columns(pieces, count)
        if columns is None:
            return None
        made = interleaved([columns[column - 1] for column in self.order], self.literals, b",")
        return unmarked(made) if escaped else made

    def _columns(self, pieces: Sequence[bytes], count: int) -> list[Sequence[bytes]] | None:
        """Give the keys and the text of each field, if nothing else but what a frozen line has is in the pieces."""
        width = self.width
        frame = b"".join(pieces[::width]).translate(None, b"0123456789")
        keys = pieces[1::width]
        if frame != b"[," + b"}]\n[," * (count - 1) + b"}]" or pieces[2::width].count(b",{") != count:
            return None
        joined = b",".join(keys)
        if joined.count(b",") != count - 1 or self.keys(joined) is None:
            return None
        columns: list[Sequence[bytes]] = [keys]
        for number, name in enumerate(self.names):
            place = 3 + 4 * number
            texts = pieces[place + 2 :: width]
            usual = (
                pieces[place::width].count(name) == count
                and pieces[place + 1 :: width].count(b":") == count
                and (not number or pieces[place - 1 :: width].count(b",") == count)
                # Every text begins with a visible ASCII character, so that none is blank.
                and min(texts) >= b"!"
                and max(texts) < b"\x7f"
            )
            if not usual:
                return None
            columns.append(texts)
        return columns


@attrs.frozen(kw_only=True)
class Splice:
    """What all spliced requests of one batch and tier share.

    Attributes:
        plain: Matches a frozen line that can be spliced, if it has no backslash: the groups are the key and every
            field, in order.
        escaped: The same for a line that has one.
        order: The groups that fill ``mold``.
        mold: The request for the ``%`` operator.
        table: How many lines are spliced at once; None where they cannot be.
    """

    plain: Callable[[bytes], re.Match[bytes] | None]
    escaped: Callable[[bytes], re.Match[bytes] | None]
    order: Sequence[int]
    mold: bytes
    table: Table | None = None

    def usual(self, line: bytes) -> bool:
        """Tell whether a line has as many fields with text as most; only such lines are spliced together."""
        return self.table is not None and marked(line).count(b'"') == self.table.width

    def joined(self, lines: Sequence[bytes]) -> bytes | None:
        """Give the requests of many lines with commas between them; None unless each of them can be spliced."""
        return None if self.table is None else self.table.joined(lines)

    @classmethod
    def make(
        cls,
        prompt: Prompt,
        fields: Sequence[str],
        *,
        key: str,
        nonce: str,
        before: bytes,
        after: bytes,
        end: bytes,
    ) -> Self:
        """Prepare for one batch.

        Args:
            prompt: Its gaps are among the fields.
            fields: The names of a frozen record, in their order in its line.
            key: A pattern of the keys that stand for themselves in a custom id.
            nonce: The batch's.
            before: What a request has before the key.
            after: What it has between the custom id and the text.
            end: What it has after the text.
        """
        patterns = [
            rb'\[\d+,"('
            + key.encode()
            + rb')",\{'
            + b",".join(re.escape(quoted(name)) + b':"' + text + b'"' for name in fields)
            + rb"\}\]"
            for text in (_PLAIN, _TEXT)
        ]
        # JSON leaves "%" and letters as they are, so the template of the text is also one of its escaped text.
        text = quoted(prompt.mold(nonce=nonce))
        mold = _whole(before) + b"%b" + _whole(f"-{nonce}".encode() + after) + text + _whole(end)
        plain, escaped = (re.compile(pattern).fullmatch for pattern in patterns)
        order = (1, *(2 + fields.index(name) for name in prompt.gaps))
        # No JSON text holds this byte.
        literals = (mold % ((b"\x02",) * len(order))).split(b"\x02")
        names = [quoted(name)[1:-1] for name in fields]
        table = None
        if not any(b"\\" in name for name in names):
            keys = re.compile(rb"(?:%b)(?:,(?:%b))*" % (key.encode(), key.encode())).fullmatch
            table = Table(keys=keys, names=names, order=order, literals=literals)
        return cls(plain=plain, escaped=escaped, order=order, mold=mold, table=table)


NEVER: Final = Splice(plain=lambda _: None, escaped=lambda _: None, order=(), mold=b"")
"""Of records that are all to be read."""


def _whole(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")
