"""What every chapter of the demo needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import attrs

from batchkit.demo.folder import Folder, Options
from batchkit.demo.show import Page
from batchkit.demo.task import Attributes
from batchkit.errors import LeaseLost, NeedsPerson
from batchkit.run import Run
from batchkit.workflow import Workflow

T = TypeVar("T")

_TRIES = 20
_PAUSE = 5.0


@attrs.frozen(kw_only=True)
class Scene:
    """The folder, the workflow under the first spec, the source, and the page that is printed."""

    folder: Folder
    options: Options
    flow: Workflow[Attributes]
    rows: Path
    page: Page

    def patiently(self, step: Callable[[], T]) -> T:
        """Do one step; where a killed demo's lease still lives, wait until it is over."""
        for _ in range(_TRIES):
            try:
                return step()
            except LeaseLost:
                self.flow.clock.sleep(_PAUSE)
        return step()

    def wait(self, run: Run[Attributes]) -> None:
        """Wait until a run is done.

        Raises:
            NeedsPerson: only a person, or money, can move it on.
        """
        now = run.wait(progress=self.page.progress())
        if not now.done:
            raise NeedsPerson("\n".join(now.lines()))
