"""When something fails: at the k-th operation, or by chance; before its effect, or after it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from enum import Enum
from typing import NoReturn, Protocol, TypeVar

__all__ = ["Chances", "Faults", "Killed", "Nth", "Way", "die_in_process", "sigkill"]

T = TypeVar("T")


class Way(str, Enum):
    """What happens to an operation."""

    RAISE_BEFORE = "raise before"
    RAISE_AFTER = "raise after"
    KILL_BEFORE = "kill before"
    KILL_AFTER = "kill after"

    @property
    def kills(self) -> bool:
        """Tell whether the process ends."""
        return self in {Way.KILL_BEFORE, Way.KILL_AFTER}

    @property
    def before(self) -> bool:
        """Tell whether the operation has no effect."""
        return self in {Way.RAISE_BEFORE, Way.KILL_BEFORE}


class Killed(BaseException):
    """The end of a process that is only played: nothing of a library catches it.

    What runs afterwards in the same interpreter, such as a ``finally``, meets it again at every operation, since
    a dead process does nothing.
    """


class Faults(Protocol):
    """Decides what becomes of each operation of the wrappers that it was given to."""

    def __call__(self, operation: str, act: Callable[[], T], error: Callable[[], Exception]) -> T:
        """Carry out an operation, or not.

        Args:
            operation: Its name, such as ``intend`` or ``POST /v1/messages/batches``.
            act: Has the effect and gives the result.
            error: Makes the error that the caller gets where the operation fails.
        """
        ...


def sigkill() -> NoReturn:
    """End this process at once, by SIGKILL: no ``finally``, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL returned")


def die_in_process() -> NoReturn:
    """Play the end of a process, where the test goes on in the same one."""
    raise Killed


class Nth:
    """Fails at one operation, counted over everything that it was given to; without ``at`` it only counts.

    To sweep: count a run once, then repeat it for each ``at`` from 1 to that number and each `Way`.

    Args:
        at: Which operation fails, counted from 1; None fails none.
        way: How.
        die: Ends the process; `die_in_process` only plays it.

    Attributes:
        operations: The names of the operations so far, in order.
        dead: Whether the process has died; every further operation then dies too.
    """

    def __init__(
        self,
        at: int | None = None,
        way: Way = Way.RAISE_BEFORE,
        *,
        die: Callable[[], NoReturn] = sigkill,
    ) -> None:
        self._at = at
        self._way = way
        self._die = die
        self.operations: list[str] = []
        self.dead: bool = False

    @property
    def struck(self) -> bool:
        """Tell whether the operation to fail was reached."""
        return self._at is not None and len(self.operations) >= self._at

    def __call__(self, operation: str, act: Callable[[], T], error: Callable[[], Exception]) -> T:
        """Carry out an operation, or not."""
        if self.dead:
            self._die()
        self.operations.append(operation)
        if len(self.operations) != self._at:
            return act()
        return strike(self._way, act, error, self._end)

    def _end(self) -> NoReturn:
        self.dead = True
        self._die()


class Chances:
    """Fails by chance, seeded; for histories of many processes played in one.

    Args:
        rng: Decides.
        raising: The share of operations that raise, half of them after their effect.
        killing: The share of operations at which the process dies, half of them after their effect.
    """

    def __init__(self, rng: random.Random, *, raising: float = 0.0, killing: float = 0.0) -> None:
        self._rng = rng
        self._raising = raising
        self._killing = killing
        self.operations: int = 0
        self.dead: bool = False

    def calm(self) -> None:
        """Stop failing."""
        self._raising = self._killing = 0.0

    def __call__(self, operation: str, act: Callable[[], T], error: Callable[[], Exception]) -> T:
        """Carry out an operation, or not."""
        if self.dead:
            raise Killed
        self.operations += 1
        if not self._raising and not self._killing:
            return act()
        fate = self._rng.random()
        if fate >= self._raising + self._killing:
            return act()
        before = self._rng.random() < 0.5
        if fate < self._killing:
            way = Way.KILL_BEFORE if before else Way.KILL_AFTER
        else:
            way = Way.RAISE_BEFORE if before else Way.RAISE_AFTER
        return strike(way, act, error, self._end)

    def _end(self) -> NoReturn:
        self.dead = True
        raise Killed


def strike(way: Way, act: Callable[[], T], error: Callable[[], Exception], die: Callable[[], NoReturn]) -> T:
    """Make one operation fail in one way."""
    if not way.before:
        act()
    if way.kills:
        die()
    raise error()
