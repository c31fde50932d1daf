"""The promise that a method takes effect wholly or not at all, wherever it breaks off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from batchkit.storage import Store
from batchkit.testing.faults.midway import midway
from batchkit.testing.faults.moments import Killed, die_in_process
from batchkit.testing.store_contract.base import OpenStore, StoreCase, code_of
from batchkit.testing.store_contract.scenes import READS, WRITES, looks, some_settled


# What a call was just given when it broke off, such as a connection, is closed by nobody but the interpreter; and
# where the moment is the end of a generator that nobody wants any more, nobody hears of the exception.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
class CrashContract(StoreCase):
    """Each method breaks off in its middle, by an exception raised there; another handle then looks and goes on."""

    crashes: int = 16
    """At how many moments of each method, spread over all that it has; at all of them in ``nox -s contract``."""

    @pytest.mark.parametrize("write", WRITES)
    def test_a_write_that_breaks_off_is_done_or_not(
        self, store: Store, open_store: OpenStore, write: str
    ) -> None:
        """Wherever a write breaks off it was done wholly or not at all, and its handle and others can go on."""
        make, number = WRITES[write], 0
        scene = make(store, number)
        before = scene.look(store)
        with midway(code_of(store)) as moments:
            scene.call(store)
        after = scene.look(store)
        assert after != before
        scene = make(store, number := number + 1)
        undone = 0
        for at in moments.spread(self.crashes):
            _broken_off(store, at, scene.call)
            with open_store() as other:
                seen = scene.look(other)
                assert seen in (before, after), f"broken off at moment {at} of {moments.count}"
            if seen == before:
                undone += 1
            else:
                scene = make(store, number := number + 1)
        assert undone
        with open_store() as other:
            scene.call(other)
            assert scene.look(other) == after

    @pytest.mark.parametrize("read", READS)
    def test_a_read_that_breaks_off_changes_nothing(
        self, store: Store, open_store: OpenStore, read: str
    ) -> None:
        """Wherever a read breaks off, it gives the same as ever when it is asked again."""
        opened = some_settled(store, 0)
        call = READS[read]
        known, before = call(store, opened), looks(opened)(store)
        with midway(code_of(store)) as moments:
            call(store, opened)
        for at in moments.spread(self.crashes // 3):
            _broken_off(store, at, lambda handle: call(handle, opened))
            assert call(store, opened) == known
        with open_store() as other:
            assert call(other, opened) == known
            assert looks(opened)(other) == before


def _broken_off(store: Store, at: int, call: Callable[[Store], object]) -> None:
    """Break a call off, or let it end if it has fewer moments than it had before, when it knew less.

    Nothing is kept of the exception: it would keep what the call had at hand.
    """
    with suppress(Killed), midway(code_of(store), at, die_in_process):
        call(store)
