"""Many histories, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from typing import Any

import attrs

from batchkit.testing.soak.scene import Engine, Outcome, Setup

__all__ = ["Summary", "play", "soak"]


@attrs.frozen(kw_only=True)
class Summary:
    """What the histories of one setup add up to.

    Attributes:
        engine: Who played.
        seeds: How many histories.
        fault_rate: The share of requests that met a fault.
        rows: Source rows over all.
        lost: Rows that are in no closed bucket at the end.
        double_paid: Lines billed for us minus results that the engine recorded as its own.
        unreported_duplicates: Those of them that no receipt reports as duplicate or unused spend.
        wrong_adoptions: Batches taken for ours that are not.
        doubts: Batches of which nobody could know.
        held: Decisions that a person had to make.
        mean_hold_minutes: For how long a doubt kept its rows, on average.
        worst_hold_hours: For how long the longest one did, the time that a person took included.
        max_virtual_hours: The longest history.
        violations: What must hold and did not, by seed.
    """

    engine: Engine
    seeds: int
    fault_rate: float
    rows: int
    lost: int
    double_paid: int
    unreported_duplicates: int
    wrong_adoptions: int
    doubts: int
    held: int
    mean_hold_minutes: float
    worst_hold_hours: float
    max_virtual_hours: float
    violations: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, setup: Setup, outcomes: Iterable[Outcome]) -> Summary:
        """Add outcomes up."""
        played = list(outcomes)
        holds = [hold for one in played for hold in one.holds]
        return cls(
            engine=setup.engine,
            seeds=len(played),
            fault_rate=setup.fault_rate,
            rows=sum(one.rows for one in played),
            lost=sum(one.lost for one in played),
            double_paid=sum(one.double_paid for one in played),
            unreported_duplicates=sum(one.unreported for one in played),
            wrong_adoptions=sum(one.wrong_adoptions for one in played),
            doubts=sum(one.doubts for one in played),
            held=sum(one.held for one in played),
            mean_hold_minutes=round(sum(holds) / max(len(holds), 1) / 60.0, 1),
            worst_hold_hours=round(max(holds, default=0.0) / 3_600.0, 1),
            max_virtual_hours=round(max((one.hours for one in played), default=0.0), 2),
            violations=tuple((one.seed, what) for one in played for what in one.violations),
        )

    def to_dict(self) -> dict[str, Any]:
        """Give JSON-able values: the number of violations, and the seeds that had one."""
        plain = attrs.asdict(self)
        plain["violations"] = len(self.violations)
        plain["seeds_with_violations"] = sorted({seed for seed, _ in self.violations})
        return plain


def play(seed: int, setup: Setup) -> Outcome:
    """Play one history.

    Args:
        seed: Decides everything that is drawn.
        setup: What it is played under.
    """
    if setup.stores != 1 and setup.engine == "batchkit":
        from batchkit.testing.soak.neighbours import Neighbours

        return Neighbours(seed, setup).play()
    if setup.engine == "batchkit":
        from batchkit.testing.soak.history import History

        return History(seed, setup).play()
    from batchkit.testing.soak.plain import PlainHistory

    return PlainHistory(seed, setup).play()


def soak(
    setup: Setup,
    seeds: Iterable[int],
    *,
    jobs: int = 1,
    each: Callable[[Outcome], None] | None = None,
) -> Summary:
    """Play a history for each seed.

    Args:
        setup: What they are played under.
        seeds: Which.
        jobs: How many processes play.
        each: Called with every outcome as it comes, in the order of the seeds.
    """
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        for outcome in _played(setup, seeds, jobs, stack):
            outcomes.append(outcome)
            if each is not None:
                each(outcome)
    return Summary.of(setup, outcomes)


def _played(setup: Setup, seeds: Iterable[int], jobs: int, stack: ExitStack) -> Iterator[Outcome]:
    one = partial(play, setup=setup)
    if jobs == 1:
        return map(one, seeds)
    pool = stack.enter_context(ProcessPoolExecutor(jobs, mp_context=get_context("spawn")))
    return pool.map(one, seeds, chunksize=20)
