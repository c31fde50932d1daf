"""Progress where people look: a live block in terminals, an updating cell in notebooks, log lines elsewhere."""

from __future__ import annotations

import contextlib
import importlib
import logging
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

from batchkit.printing import dollars, printable
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


def interrupted(where: str, name: str = "RUN") -> None:
    """Say that nothing was canceled, and how to do that."""
    store, run = shlex.quote(where) if where else "STORE", shlex.quote(name) if name != "RUN" else name
    sys.stderr.write(
        "\nNothing was canceled: what was sent runs on at the provider, and the next start goes on from the store.\n"
        f"  python -m batchkit pause {store} {run}\n"
        f"  python -m batchkit cancel {store} {run}\n"
    )


def _terminal(stack: contextlib.ExitStack) -> Show | None:
    if not sys.stderr.isatty():
        return None
    # By name: rich is an extra, and is not there wherever types are checked.
    try:
        console, live, text = (
            importlib.import_module(f"rich.{name}") for name in ("console", "live", "text")
        )
    except ImportError:
        return None
    block: Any = stack.enter_context(
        live.Live(console=console.Console(stderr=True), refresh_per_second=4, transient=False)
    )

    def update(progress: Progress) -> None:
        block.update(text.Text(str(progress)), refresh=True)

    return update


def _notebook() -> Show | None:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    handle: Any = importlib.import_module("IPython.display").display(display_id=True)
    if handle is None:
        return None

    def update(progress: Progress) -> None:
        handle.update(progress)

    return update


def _log_lines() -> Show:
    last: list[str] = []

    def log(progress: Progress) -> None:
        line = (
            f"{progress.name} · {progress.state} · {progress.equation} · {dollars(progress.spent_usd)} spent"
        )
        if last != [line]:
            last[:] = [line]
            _LOG.info("%s", printable(line))

    return log
