"""Progress where people look: a live block in terminals, an updating cell in notebooks, log lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from batchkit.progress import Progress

_LOG = logging.getLogger("batchkit")

Show: TypeAlias = Callable[[Progress], None]


@contextlib.contextmanager
def shower(wanted: Literal["auto", "none"] | Show, listener: Show | None) -> Iterator[Show]:
    """Give a function that shows a progress as asked, and tells ``listener`` too."""
    with contextlib.ExitStack() as stack:
        shown: Show | None
        if callable(wanted):
            shown = wanted
        elif wanted == "none":
            shown = None
        else:
            shown = _notebook() or _terminal(stack) or _log_lines()

        def show(progress: Progress) -> None:
            if shown is not None:
                shown(progress)
            if listener is not None:
                listener(progress)

        yield show


def _terminal(stack: contextlib.ExitStack) -> Show | None:
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        return None
    live = stack.enter_context(Live(console=Console(stderr=True), refresh_per_second=4, transient=False))
    return lambda progress: live.update(Text(printable(str(progress))), refresh=True)


def _notebook() -> Show | None:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    handle = display(display_id=True)
    return None if handle is None else handle.update


def _log_lines() -> Show:
    last: list[str] = []

    def log(progress: Progress) -> None:
        line = f"{progress.name} · {progress.state} · {progress.equation} · ${progress.spent_usd:.2f} spent"
        if last != [line]:
            last[:] = [line]
            _LOG.info("%s", printable(line))

    return log


def printable(text: str) -> str:
    """Give text that can do nothing to a terminal: control and direction characters become escapes."""
    return "".join(
        c if c == "\n" or (c.isprintable() and c not in _BIDI) else c.encode("unicode_escape").decode()
        for c in text
    )


_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")
