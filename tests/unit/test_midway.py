"""Something happens in the middle of a call, in the code that is meant and nowhere else."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from batchkit.testing.faults import Killed, die_in_process, midway

CODE = """
def two_calls(made):
    made.append("one")
    made.append("two")

def careful(made):
    try:
        two_calls(made)
    finally:
        two_calls(made)

def locked(lock):
    with lock:
        two_calls([])
"""
# A module of its own, since calls that the test itself makes are moments, too.
MODULE: dict[str, Any] = {"__name__": "subject"}
exec(CODE, MODULE)
two_calls, careful, locked = (MODULE[name] for name in ("two_calls", "careful", "locked"))


def test_a_moment_is_before_or_after_each_call() -> None:
    """Two calls of a built-in are four moments."""
    with midway("subject") as moments:
        two_calls([])
    assert moments.count == 4
    assert moments.spread(3) == [1, 2, 4]
    assert moments.spread(4) == moments.spread(99) == [1, 2, 3, 4]


@pytest.mark.parametrize(("at", "made"), [(1, []), (2, ["one"]), (3, ["one"]), (4, ["one", "two"])])
def test_what_is_raised_breaks_the_call_off(at: int, made: list[str]) -> None:
    """An exception at a moment is raised where the code is then: before a call it has no effect, after it it has."""
    seen: list[str] = []
    with pytest.raises(Killed), midway("subject", at, die_in_process):
        two_calls(seen)
    assert seen == made
    assert sys.getprofile() is None


def test_it_happens_once() -> None:
    """What the code does about the exception goes undisturbed."""
    seen: list[str] = []
    with pytest.raises(Killed), midway("subject", 2, die_in_process):
        careful(seen)
    assert seen == ["one", "two"]


def test_other_code_has_no_moments() -> None:
    """Calls that other modules make, or that are made in another thread, do not count."""
    with midway("batchkit.storage") as moments:
        two_calls([])
    assert moments.count == 0
    thread = threading.Thread(target=two_calls, args=([],))
    with midway("somebody.elses") as moments:
        thread.start()
        thread.join()
    assert moments.count == 0


def test_a_lock_that_is_held_is_let_go() -> None:
    """Nothing comes between a built-in lock and its block, as nothing does when Ctrl-C is pressed."""
    lock = threading.Lock()
    with midway("subject") as moments:
        locked(lock)
    for at in moments.spread(moments.count):
        with pytest.raises(Killed), midway("subject", at, die_in_process):
            locked(lock)
        assert not lock.locked()
