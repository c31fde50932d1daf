"""Something happens in the middle of a call: whatever the code is, and without a hook in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

__all__ = ["Moments", "midway"]


_UNBROKEN: Final = frozenset({"__enter__", "__exit__"})
"""A built-in's, such as a lock's: the interpreter lets nothing come between them and their block."""


class Moments:
    """Counts the moments of a call: before and after each call that the code at hand makes itself.

    Attributes:
        count: How many there were so far.
    """

    def __init__(self) -> None:
        self.count: int = 0

    def spread(self, wanted: int) -> list[int]:
        """Give so many of the moments, spread evenly, the first and the last among them; all, if there are no more."""
        last = self.count
        if last <= wanted:
            return list(range(1, last + 1))
        return sorted({1 + (last - 1) * n // (wanted - 1) for n in range(wanted)})


@contextmanager
def midway(
    package: str, at: int | None = None, act: Callable[[], object] = lambda: None
) -> Iterator[Moments]:
    """Let something happen at one moment of a block, in the thread that it runs in.

    What ``act`` raises is raised where the block's code is then, as Ctrl-C would be. It happens once, so what the
    code does about it goes undisturbed.

    Args:
        package: Whose code is meant: a module, or a package with all that is in it. A moment is before or after each
            call that this code makes, be it of a function, a driver or a built-in.
        at: At which moment, counted from 1; None only counts them.
        act: What happens.
    """
    moments = Moments()
    inside = f"{package}."

    def look(frame: FrameType, event: str, what: Any) -> None:
        builtin = event.startswith("c_")
        if event == "c_exception" or (builtin and what.__name__ in _UNBROKEN):
            return
        caller = frame if builtin else frame.f_back
        if caller is None:
            return
        name: str = caller.f_globals.get("__name__", "")
        if name != package and not name.startswith(inside):
            return
        moments.count += 1
        if moments.count == at:
            sys.setprofile(None)
            del frame, caller, what  # kept in the traceback, a driver's cursor would stay open
            act()

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield moments
    finally:
        sys.setprofile(before)
