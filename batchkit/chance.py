"""Chance as a parameter: what draws sizes and spreads polls."""

from __future__ import annotations

import os
from typing import Protocol

__all__ = ["Chance", "SystemChance"]


class Chance(Protocol):
    """What is needed of a source of chance; `random.Random` is one."""

    def randint(self, a: int, b: int, /) -> int:
        """Give a whole number from ``a`` to ``b``, both included."""
        ...

    def random(self) -> float:
        """Give a number from 0 up to 1."""
        ...


class SystemChance:
    """The operating system's own."""

    def randint(self, a: int, b: int, /) -> int:
        """Give a whole number from ``a`` to ``b``, both included."""
        return a + int(self.random() * (b - a + 1))

    def random(self) -> float:
        """Give a number from 0 up to 1."""
        return int.from_bytes(os.urandom(7), "big") / (1 << 56)
