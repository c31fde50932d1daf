"""Two versions of a pilot, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Standing:
    """How one row stands in one version: what it shows, its answer, and whether that is right, if anybody knows."""

    shown: str
    output: Mapping[str, Any] | None
    good: bool | None


@attrs.frozen(kw_only=True)
class Comparison:
    """What became of each row between two versions, by key.

    Attributes:
        earlier: The earlier version's number.
        later: The later version's number.
        fixed: Rows that were wrong and are right.
        broken: Rows that were right and are wrong.
        changed: Rows with another answer that is as right or wrong as before, or that nobody has read.
        same: Rows with the same answer.
    """

    earlier: int
    later: int
    fixed: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    same: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Count: ``v1 | v2: 14 fixed, 1 broken, 85 same``."""
        parts = [f"{len(self.fixed)} fixed", f"{len(self.broken)} broken"]
        if self.changed:
            parts.append(f"{len(self.changed)} changed")
        return f"v{self.earlier} | v{self.later}: {', '.join(parts)}, {len(self.same)} same"


def compare(
    earlier: tuple[int, Mapping[str, Standing]], later: tuple[int, Mapping[str, Standing]]
) -> Comparison:
    """Sort every row of two versions, each given as its number and its rows."""
    fixed, broken, changed, same = [], [], [], []
    for key, now in later[1].items():
        then = earlier[1].get(key)
        if then is not None and then.shown == now.shown:
            same.append(key)
        elif then is not None and then.good is False and now.good:
            fixed.append(key)
        elif then is not None and then.good and now.good is False:
            broken.append(key)
        else:
            changed.append(key)
    return Comparison(
        earlier=earlier[0],
        later=later[0],
        fixed=tuple(fixed),
        broken=tuple(broken),
        changed=tuple(changed),
        same=tuple(same),
    )
