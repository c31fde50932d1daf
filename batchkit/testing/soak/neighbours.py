"""Several stores that send to one workspace at the same time."""

from __future__ import annotations

import contextlib
import random

from batchkit.testing.soak.history import History
from batchkit.testing.soak.scene import Outcome, Setup
from batchkit.testing.soak.surroundings import Surroundings

__all__ = ["Neighbours"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Neighbours:
    """A history for each store, interleaved: all of them see each other's batches in the list.

    Args:
        seed: Decides everything.
        setup: What it is played under.
    """

    def __init__(self, seed: int, setup: Setup) -> None:
        if not 1 <= setup.stores <= len(_LETTERS):
            raise ValueError(f"1 to {len(_LETTERS)} stores, not {setup.stores}")
        self.seed = seed
        around = Surroundings(seed, setup, random.Random(f"{seed}:neighbours"))
        self.histories: list[History] = [
            History(setup.stores * seed + number, setup, around, _LETTERS[number])
            for number in range(setup.stores)
        ]

    def play(self) -> Outcome:
        """Play them to the end of the last one."""
        with contextlib.ExitStack() as stack:
            for history in self.histories:
                stack.enter_context(history.opened())
            moving = list(self.histories)
            while moving:
                history = min(moving, key=lambda one: one.due)
                if history.turn():
                    moving.remove(history)
            outcomes = [history.judged() for history in self.histories]
        return Outcome(
            seed=self.seed,
            rows=sum(one.rows for one in outcomes),
            lost=sum(one.lost for one in outcomes),
            double_paid=sum(one.double_paid for one in outcomes),
            reported=sum(one.reported for one in outcomes),
            wrong_adoptions=sum(one.wrong_adoptions for one in outcomes),
            hours=max(one.hours for one in outcomes),
            held=sum(one.held for one in outcomes),
            doubts=sum(one.doubts for one in outcomes),
            holds=tuple(hold for one in outcomes for hold in one.holds),
            violations=tuple(what for one in outcomes for what in one.violations),
            digest=outcomes[-1].digest,
        )
