"""Two stores in one workspace, among strangers, deletions, rotated keys and jumping clocks."""

from __future__ import annotations

import attrs
import pytest

from batchkit.testing.soak import Setup, Summary, play, soak


def crowded(rows: int, most: int) -> Setup:
    """Two stores, a stranger a minute, half of whose batches are deleted within the hour."""
    return Setup(
        stores=2,
        rows=rows,
        most=most,
        strangers=60.0,
        deletions=0.5,
        rotate=True,
        jumps=0.05,
        fault_rate=0.4,
        storm=2 * 3_600.0,
    )


@pytest.mark.parametrize(("rows", "most", "seeds"), [(14, 7, range(2)), (200, 100, range(2, 3))])
def test_neither_takes_what_is_not_its_own(rows: int, most: int, seeds: range) -> None:
    """No batch is adopted that is another's, no row is lost or paid twice, and every doubt ends."""
    summary = soak(crowded(rows, most), seeds)
    assert summary.violations == ()
    assert (summary.lost, summary.double_paid, summary.wrong_adoptions) == (0, 0, 0)
    assert summary.rows == 2 * rows * len(seeds)
    assert summary.doubts > 0
    assert 0 < summary.mean_hold_minutes <= 60 * (summary.worst_hold_hours + 0.05)  # rounded to a tenth


def test_one_look_at_the_list_takes_strangers_batches() -> None:
    """Among so many batches of the same size, taking the newest one for one's own goes wrong."""
    setup = Setup(engine="one_listing", rows=21, most=7, strangers=60.0, fault_rate=0.3)
    assert soak(setup, range(10)).wrong_adoptions > 0


def test_keys_of_another_workspace_are_noticed() -> None:
    """Where a process is started with one now and then, no batch is sent under a wrong name, or adopted, lost or paid twice."""
    summary = soak(Setup(astray=True, fault_rate=0.2), (19, 22, 24, 25))
    assert summary.violations == ()
    assert (summary.lost, summary.double_paid, summary.wrong_adoptions) == (0, 0, 0)
    assert summary.doubts > 0


def test_a_history_of_two_stores_is_played_again() -> None:
    """The same seed gives the same batches at the same moments, and sums over both stores."""
    setup = attrs.evolve(crowded(5, 5), storm=1_200.0)
    first = play(4, setup)
    assert play(4, setup) == first
    summary = Summary.of(setup, [first])
    assert (summary.rows, summary.seeds) == (10, 1)
