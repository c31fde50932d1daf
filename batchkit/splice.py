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

from batchkit.encoding import quoted
from batchkit.prompt import Prompt

__all__ = ["NEVER", "Splice"]

# The text of a field that is surely not blank: it begins with a visible ASCII character, unescaped.
_TEXT: Final = rb'([!#-\[\]-~][^"\\]*(?:\\.[^"\\]*)*)'
# The same where the whole line has no backslash: a third of the time.
_PLAIN: Final = rb'([!#-\[\]-~][^"]*)'


@attrs.frozen(kw_only=True)
class Splice:
    """What all spliced requests of one batch and tier share.

    Attributes:
        plain: Matches a frozen line that can be spliced, if it has no backslash: the groups are the key and every
            field, in order.
        escaped: The same for a line that has one.
        order: The groups that fill ``mold``.
        mold: The request for the ``%`` operator.
    """

    plain: Callable[[bytes], re.Match[bytes] | None]
    escaped: Callable[[bytes], re.Match[bytes] | None]
    order: Sequence[int]
    mold: bytes

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
        return cls(
            plain=plain,
            escaped=escaped,
            order=(1, *(2 + fields.index(name) for name in prompt.gaps)),
            mold=mold,
        )


NEVER: Final = Splice(plain=lambda _: None, escaped=lambda _: None, order=(), mold=b"")
"""Of records that are all to be read."""


def _whole(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")
