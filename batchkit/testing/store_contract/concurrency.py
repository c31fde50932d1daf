"""The promises about several who use a store at once: each method is one transaction, and one mover moves a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

import pytest

from batchkit.clock import Clock
from batchkit.errors import BatchkitError, LeaseLost, OverBudget, StoreError, Unresolved
from batchkit.ids import Digest, RunId
from batchkit.model import PAGE, BatchWhere, DocKind, Lease, NewRun, Place, Where
from batchkit.states import BatchState, RowState
from batchkit.storage import Store
from batchkit.testing.faults.midway import midway
from batchkit.testing.store_contract.base import (
    OTHER_PLACE,
    PLACE,
    Opened,
    OpenStore,
    StoreCase,
    a_run,
    accepted,
    an_intent,
    an_open_run,
    code_of,
    record,
)
from batchkit.testing.store_contract.scenes import LEASED, LeasedScene

SHORT: Final = 0.04
_WAITS: Final = 0.02
"""Seconds after which a call in another thread is taken to wait for this one."""

Call = Callable[[Store], object]


class ConcurrencyContract(StoreCase):
    """Two handles on one store, and one handle in two threads. A second call begins in the middle of a first."""

    moments: int = 8
    """At how many moments of the first call the second begins, spread over all that it has."""

    def test_of_two_that_open_a_run_one_makes_it(self, store: Store, open_store: OpenStore) -> None:
        """Of two that open a run of one name at once, one makes it and the other is given it."""

        def call(number: int) -> Call:
            return lambda s: s.open_run(NewRun(name=f"run {number}", spec=Digest("ab" * 32)))

        for one, two in self._pairs(store, open_store, call, call):
            assert isinstance(one, tuple)
            assert isinstance(two, tuple)
            assert one[0] == two[0]
            assert sorted([one[1], two[1]]) == [False, True]

    def test_of_two_that_take_a_lease_one_gets_it(self, store: Store, open_store: OpenStore) -> None:
        """Of two owners that take a free lease at once, one gets it and the other None."""
        ids: dict[int, RunId] = {}

        def call(owner: str) -> Callable[[int], Call]:
            def made(number: int) -> Call:
                if number not in ids:
                    ids[number] = store.open_run(NewRun(name=f"run {number}", spec=Digest("ab" * 32)))[0].id
                return lambda s: s.acquire(ids[number], owner, 60)

            return made

        for one, two in self._pairs(store, open_store, call("one"), call("two")):
            assert [type(one), type(two)].count(Lease) == 1
            assert None in (one, two)

    def test_one_batch_per_place_whoever_makes_it(self, store: Store, open_store: OpenStore) -> None:
        """Of two runs that make a batch in one place at once, one does and the other is told to wait."""
        first, second = self._two(store)

        def call(opened: Opened) -> Callable[[int], Call]:
            def made(number: int) -> Call:
                _resolve(opened)
                intent = an_intent(f"{opened.run.name}{number:07d}")
                return lambda s: s.intend(opened.lease, intent, opened.ids([number]))

            return made

        for one, two in self._pairs(store, open_store, call(first), call(second)):
            assert sorted(type(each).__name__ for each in (one, two)) == ["Batch", "Unresolved"]
            assert Unresolved in (type(one), type(two))

    def test_the_cap_holds_whoever_reserves(self, store: Store, open_store: OpenStore) -> None:
        """Of two reservations at once, of which only one fits under the cap, one is made."""
        first, second = self._two(store)

        def call(opened: Opened, place: Place) -> Callable[[int], Call]:
            def made(number: int) -> Call:
                _resolve(opened)
                reserved = sum(batch.reserved for batch in store.batches(BatchWhere()))
                nonce, cap = f"{opened.run.name}{number:07d}", reserved + 100
                intent = an_intent(nonce, place=place, reserve=60, cap=cap)
                return lambda s: s.intend(opened.lease, intent, opened.ids([number]))

            return made

        for one, two in self._pairs(store, open_store, call(first, PLACE), call(second, OTHER_PLACE)):
            assert sorted(type(each).__name__ for each in (one, two)) == ["Batch", "OverBudget"]
            assert OverBudget in (type(one), type(two))

    def test_each_append_has_a_key_of_its_own(self, store: Store, open_store: OpenStore) -> None:
        """Two that append to one scope at once get two keys, one after the other."""
        keys: list[object] = []
        for pair in self._pairs(
            store,
            open_store,
            lambda number: lambda s: s.append(DocKind.REQUEST, "run-1", b"one"),
            lambda number: lambda s: s.append(DocKind.REQUEST, "run-1", b"two"),
        ):
            keys += pair
        assert sorted(map(str, keys)) == [f"run-1/{number:012d}" for number in range(1, len(keys) + 1)]

    def test_of_two_bodies_under_a_key_one_is_kept(self, store: Store, open_store: OpenStore) -> None:
        """Of two that put other bodies under one key at once, one is refused and the other's body is kept."""
        for number, (one, two) in enumerate(
            self._pairs(
                store,
                open_store,
                lambda number: lambda s: s.put(DocKind.LOCK, str(number), b"one"),
                lambda number: lambda s: s.put(DocKind.LOCK, str(number), b"two"),
            )
        ):
            assert [isinstance(each, StoreError) for each in (one, two)].count(True) == 1
            kept = b"two" if isinstance(one, StoreError) else b"one"
            assert store.get(DocKind.LOCK, str(number)) == kept

    @pytest.mark.parametrize("write", LEASED)
    def test_a_lease_that_expires_in_mid_write(
        self, store: Store, open_store: OpenStore, clock: Clock, write: str
    ) -> None:
        """A lease that expires in mid-write and is taken by another: the write was made before, or is lost wholly."""
        make = LEASED[write]
        model = make(store, 0)
        before = _unleased(model.look(store))
        with midway(code_of(store)) as counted:
            model.call(store)
        after = _unleased(model.look(store))
        lost = 0
        for number, at in enumerate(counted.spread(self.moments // 2), 1):
            scene = make(store, number)
            run = scene.opened.run.id
            short = store.acquire(run, "me", SHORT)
            assert short is not None
            with open_store() as other:
                first, second = _beside(
                    store,
                    at,
                    partial(_under, scene, short),
                    partial(other.acquire, run, "somebody else", 60),
                    pause=lambda: clock.sleep(2 * SHORT),
                )
                seen = _unleased(scene.look(other))
            if isinstance(first, LeaseLost):
                assert isinstance(second, Lease)
                assert seen == before
                lost += 1
            else:
                assert not isinstance(first, BatchkitError)
                assert seen == after
            if isinstance(second, Lease):
                assert second.epoch > short.epoch
                with pytest.raises(LeaseLost):
                    store.freeze(short, [])
            else:
                assert second is None
        assert lost

    @pytest.mark.parametrize("shared", [False, True], ids=["another handle", "the same handle"])
    def test_readers_see_whole_pages_while_a_writer_freezes(
        self, store: Store, open_store: OpenStore, shared: bool
    ) -> None:
        """Beside a writer that freezes pages a reader sees whole pages, and never fewer than before."""
        opened, seen = a_run(store), [0]

        def freeze() -> None:
            for first in range(0, 12 * PAGE, PAGE):
                store.freeze(opened.lease, [record(n) for n in range(first, first + PAGE)])

        def look(reader: Store) -> None:
            seen.append(reader.tally(opened.run.id).total)
            assert seen[-1] % PAGE == 0
            assert seen[-1] >= seen[-2]
            assert len(reader.page(opened.run.id, Where(source=True), limit=PAGE + 1)) in (0, PAGE, PAGE + 1)

        self._beside_reader(store, open_store, freeze, look, shared=shared)
        assert store.tally(opened.run.id).total == 12 * PAGE

    @pytest.mark.parametrize("shared", [False, True], ids=["another handle", "the same handle"])
    def test_readers_see_whole_pages_while_a_writer_settles(
        self, store: Store, open_store: OpenStore, shared: bool
    ) -> None:
        """Beside a writer that settles pages a reader sees rows, results, sums and batch agree page by page."""
        opened = an_open_run(store, 500)
        batch, page = opened.live(range(500)), 25

        def settle() -> None:
            for first in range(0, 500, page):
                store.settle(
                    opened.lease, batch.id, [accepted(row) for row in opened.ids(range(first, first + page))]
                )

        def look(reader: Store) -> None:
            (now,) = reader.batches(BatchWhere())
            assert (now.lines % page, now.spent) == (0, now.lines * 7)
            counts = [
                reader.tally(opened.run.id).in_state(RowState.SUCCEEDED),
                len(reader.results(opened.run.id)),
                sum(line.results for line in reader.ledger(opened.run.id)),
                sum(row.answer is not None for row in reader.page(opened.run.id, Where(results=True))),
            ]
            assert [count % page for count in counts] == [0] * 4
            assert counts == sorted(counts)
            assert counts[0] >= now.lines

        self._beside_reader(store, open_store, settle, look, shared=shared)
        assert store.tally(opened.run.id).in_state(RowState.SUCCEEDED) == 500

    def test_two_movers_move_a_run_one_at_a_time(self, store: Store, open_store: OpenStore) -> None:
        """Two movers that take the lease in turn send and settle each row once between them."""
        opened, epochs = an_open_run(store, 24), list[int]()
        store.release(opened.lease)

        def move(mover: Store, owner: str) -> None:
            while mover.tally(opened.run.id).open:
                lease = mover.acquire(opened.run.id, owner, 60)
                if lease is None:
                    continue
                epochs.append(lease.epoch)
                pending = mover.page(opened.run.id, Where(states=frozenset({RowState.PENDING})), limit=3)
                if pending:
                    rows = [row.id for row in pending]
                    batch = mover.intend(lease, an_intent(f"{lease.epoch:08d}"), rows)
                    sending = BatchState.SENDING
                    mover.move_batch(lease, batch.id, expect=BatchState.INTENT, to=sending)
                    mover.move_batch(lease, batch.id, expect=sending, to=BatchState.LIVE)
                    assert mover.settle(lease, batch.id, [accepted(row) for row in rows]).applied == len(rows)
                mover.release(lease)

        with open_store() as other:
            _at_once(lambda: move(store, "one"), lambda: move(other, "two"))
        assert sorted(result.row for result in store.results(opened.run.id)) == opened.ids(range(24))
        assert sum(batch.lines for batch in store.batches(BatchWhere())) == 24
        assert len(set(epochs)) == len(epochs)

    def test_two_that_take_the_lease_from_each_other(self, store: Store, open_store: OpenStore) -> None:
        """Two of one owner that end each other's leases, and settle the same lines, settle each once."""
        opened = an_open_run(store, 40)
        batch, done = opened.live(range(40)), list[int]()

        def settle(mover: Store) -> None:
            for first in range(0, 40, 4):
                page = [accepted(row) for row in opened.ids(range(first, first + 4))]
                while True:
                    lease = mover.acquire(opened.run.id, "me", 60)
                    assert lease is not None
                    try:
                        done.append(mover.settle(lease, batch.id, page).applied)
                    except LeaseLost:
                        continue
                    break

        with open_store() as other:
            _at_once(lambda: settle(store), lambda: settle(other))
        assert sum(done) == 40
        assert sorted(result.row for result in store.results(opened.run.id)) == opened.ids(range(40))
        (after,) = store.batches(BatchWhere())
        assert (after.lines, after.spent) == (40, 40 * 7)

    # -- how

    def _two(self, store: Store) -> tuple[Opened, Opened]:
        return an_open_run(store, self.moments + 1, "a"), an_open_run(store, self.moments + 1, "b")

    def _pairs(
        self,
        store: Store,
        open_store: OpenStore,
        first: Callable[[int], Call],
        second: Callable[[int], Call],
    ) -> list[tuple[object, object]]:
        """Begin a second call at each of some moments of a first; give what became of both, a number for each time."""
        call, after = first(0), second(0)
        with midway(code_of(store)) as counted:
            one = _outcome(lambda: call(store))
        pairs = [(one, _outcome(lambda: after(store)))]
        with open_store() as other:
            for number, at in enumerate(counted.spread(self.moments), 1):
                call, after = first(number), second(number)
                pairs.append(_beside(store, at, call, partial(after, other)))
        return pairs

    def _beside_reader(
        self,
        store: Store,
        open_store: OpenStore,
        write: Callable[[], None],
        look: Callable[[Store], None],
        *,
        shared: bool,
    ) -> None:
        written = threading.Event()

        def writer() -> None:
            try:
                write()
            finally:
                written.set()

        def reader(handle: Store) -> None:
            while not written.is_set():
                look(handle)

        with ExitStack() as stack:
            handle = store if shared else stack.enter_context(open_store())
            _at_once(writer, lambda: reader(handle))


def _outcome(call: Callable[[], object]) -> object:
    """Give what a call gives, or the error that it raises."""
    try:
        return call()
    except BatchkitError as error:
        return error


def _beside(
    store: Store,
    at: int,
    call: Call,
    second: Callable[[], object],
    *,
    pause: Callable[[], object] = lambda: None,
) -> tuple[object, object]:
    """Make a call, and at one of its moments a second in another thread, which may have to wait for it."""
    outcomes: list[object] = []
    thread = threading.Thread(target=lambda: outcomes.append(_outcome(second)), daemon=True)

    def begin() -> None:
        pause()
        thread.start()
        # Before its first call the store has nothing that another would wait for.
        thread.join(20 if at == 1 else _WAITS)

    with midway(code_of(store), at, begin):
        first = _outcome(lambda: call(store))
    if not thread.ident:  # the call was shorter than it had been
        begin()
    thread.join(20)
    assert outcomes, "a call in another thread did not come back"
    return first, outcomes[0]


def _at_once(*acts: Callable[[], object]) -> None:
    """Do things in threads of their own; the first of their errors is raised here."""
    errors: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)


def _resolve(opened: Opened) -> None:
    """Make room in a place: what the run intended is not sent."""
    intents = BatchWhere(run=opened.run.id, states=frozenset({BatchState.INTENT}))
    for batch in opened.store.batches(intents):
        opened.move(batch, BatchState.INTENT, BatchState.REJECTED)


def _under(scene: LeasedScene, lease: Lease, store: Store) -> object:
    return scene.write(store, lease)


def _unleased(seen: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in seen.items() if name != "lease"}
