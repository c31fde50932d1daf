"""One version of a pilot: the sampled rows, answered under one spec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic

import attrs
from typing_extensions import TypeVar

from batchkit.grading import Grade
from batchkit.model import Run as RunRecord
from batchkit.progress import Progress
from batchkit.rows import Row, Rows
from batchkit.spec import Spec
from batchkit.standing import progress_of
from batchkit.states import RunState

if TYPE_CHECKING:
    from batchkit.pilot import Pilot  # noqa: TC004 - never evaluated; at run time it would be a circle

T = TypeVar("T", default=Any)


@attrs.frozen(kw_only=True)
class Version(Generic[T]):
    """The sampled rows, answered under one spec: a small run of its own."""

    number: int
    pilot: Pilot[T] = attrs.field(repr=False)
    record: RunRecord = attrs.field(repr=False)

    @property
    def spec(self) -> Spec[T]:
        """Give the spec it ran under.

        Raises:
            SpecChanged: this code's contract is another than the one it was run with.
        """
        return self.pilot.spec_of(self.record)

    @property
    def progress(self) -> Progress:
        """Give where its run stands."""
        return progress_of(self.pilot.store, self.record)

    @property
    def done(self) -> bool:
        """Tell whether every row is closed."""
        return self.record.state is RunState.CLOSED

    @property
    def rows(self) -> Rows[T]:
        """Give its rows."""
        return self.pilot.rows(version=self.number)

    @property
    def grade(self) -> Grade:
        """Give its answers against what people said, so far."""
        return self.pilot.grade(self.number)

    def __iter__(self) -> Iterator[Row[T]]:
        """Give its rows, in the order they were picked."""
        return iter(self.rows)

    def __str__(self) -> str:
        """Name it, and say how far reading it is."""
        return f"v{self.number}: spec {self.record.spec[:6]}, {self.pilot.review(self.number).progress}"
