"""What the demo prints: sections, short tables, one line of progress per change."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

from batchkit.layout import table
from batchkit.printing import counted, dollars, printable
from batchkit.progress import Progress

Showing: TypeAlias = "Literal['auto'] | Callable[[Progress], None]"


class Page:
    """The demo's output, line by line."""

    def __init__(self) -> None:
        """Begin to count sections and seconds."""
        self._number = 0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the page was begun."""
        return time.monotonic() - self._began

    def section(self, title: str) -> None:
        """Print the title of the next section."""
        self._number += 1
        head = f"── {self._number}. {title} "
        self._write(f"\n{head}{'─' * max(4, 96 - len(head))} {self.seconds:5.1f} s\n")

    def say(self, *texts: object) -> None:
        """Print some text, indented; nothing in it can do anything to a terminal."""
        for text in texts:
            for line in str(text).split("\n"):
                self._write(f"   {printable(line)}\n")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print rows under a head."""
        self.say(*table(head, rows))

    def counts(self, counts: Mapping[str, object]) -> None:
        """Print names with their counts, one a line."""
        self.table(("", "rows"), counts.items())

    def progress(self) -> Showing:
        """Give what shows a waiting run: a live block in a terminal with rich, else a line for every change."""
        if sys.stderr.isatty():
            return "auto"
        last: list[str] = []

        def show(now: Progress) -> None:
            line = f"{now.state:<8} {now.equation} · {counted(now.batches_running, 'batch', 'batches')} running · {dollars(now.spent_usd)}"
            if last != [line]:
                last[:] = [line]
                self.say(line)

        return show

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
