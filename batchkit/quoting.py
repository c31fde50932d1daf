"""Text that comes from elsewhere, quoted for where it goes: HTML, Markdown, a shell."""

from __future__ import annotations

import html
import re
import shlex
from typing import Final

from batchkit.printing import printable

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()<>#+!|~&@]|:(?=//)|(?<=www)\.)")


def html_text(value: object) -> str:
    """Give a value as HTML that is nothing but text, with nothing invisible in it."""
    return html.escape(printable(str(value)))


def markdown_text(text: object) -> str:
    """Give text that Markdown shows as it is: on one line, no markup, no link, no HTML, no table cell."""
    return _MARKUP.sub(r"\\\1", printable(str(text)))


def markdown_code(text: str) -> str:
    """Give text as a Markdown code span that it cannot end."""
    shown = printable(text)
    ticks = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{ticks} {shown} {ticks}" if "`" in shown else f"`{shown}`"


def shell_word(text: str) -> str:
    """Quote a word for a POSIX shell, on one line whatever it holds."""
    if printable(text) == text:
        return shlex.quote(text)
    # bash, zsh and busybox read these escapes; nothing else puts a newline into one line.
    return "$'" + "".join(c if c.isalnum() and c.isascii() else f"\\u{ord(c):04x}" for c in text) + "'"
