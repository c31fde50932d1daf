"""The promises of a transaction, which a store over an ordered map stands on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import pytest

from batchkit.storage import Store
from batchkit.storage.keyvalue import KeyValueStore
from batchkit.storage.keyvalue.entries import BULK
from batchkit.testing.store_contract.base import OpenStore, StoreCase

_WAITS: Final = 0.05
"""Seconds after which what another thread does is taken to wait for this one."""
_FIRST, _END = b"z", b"z\xff\xff"
"""Above and below everything that these tests write, and beside everything that a store does."""


class TransactionContract(StoreCase):
    """`batchkit.storage.keyvalue.Transaction`, and what begins and ends one."""

    @pytest.fixture
    def pairs(self, store: Store) -> KeyValueStore:
        """Give the store, with access to its transactions."""
        assert isinstance(store, KeyValueStore)
        return store

    def test_keys_are_in_the_order_of_their_bytes(self, pairs: KeyValueStore) -> None:
        """Keys of any bytes are scanned in the order of their bytes, and their values, also empty ones, are as they were put."""
        ordered = [
            _FIRST + tail
            for tail in (b"", b"\0", b"\0\0", b"\n", b"/", b"0", b"A", b"a", b"\x7f", b"\x80", b"\xff")
        ]
        values = {key: bytes(range(256)) * n for n, key in enumerate(ordered)}
        with pairs.transaction(write=True) as transaction:
            transaction.put(dict(reversed(values.items())))
        with pairs.transaction(write=False) as transaction:
            assert list(transaction.scan(_FIRST, _END, BULK)) == list(values.items())

    def test_a_scan_has_bounds_and_a_limit(self, pairs: KeyValueStore) -> None:
        """A scan gives the first keys from its lower bound on and before its upper one, no more than were asked for."""
        keys = [_FIRST + bytes([n]) for n in range(10)]
        with pairs.transaction(write=True) as transaction:
            transaction.put(dict.fromkeys(keys, b""))
            for low, high, limit in ((2, 7, BULK), (0, 9, 3), (4, 4, 1), (7, 2, 1)):
                found = [key for key, _ in transaction.scan(keys[low], keys[high], limit)]
                assert found == keys[low:high][:limit]

    def test_many_keys_at_once(self, pairs: KeyValueStore) -> None:
        """As many keys as one call may bring are put and got; those that there are not are left out."""
        values = {_FIRST + b"%05d" % n: b"%d" % n * 200 for n in range(BULK)}
        with pairs.transaction(write=True) as transaction:
            transaction.put(values)
            assert transaction.get(list(values)) == values
            assert transaction.get([_END, next(iter(values))]) == dict([next(iter(values.items()))])
            assert transaction.get([_END]) == {}

    def test_what_is_put_again_is_replaced(self, pairs: KeyValueStore) -> None:
        """A value that is put replaces the one before it, in one call with new ones, in this transaction or a later."""
        one, two = _FIRST + b"1", _FIRST + b"2"
        with pairs.transaction(write=True) as transaction:
            transaction.put({one: b"a"})
            transaction.put({one: b"b", two: b"c"})
            assert transaction.get([one, two]) == {one: b"b", two: b"c"}
        with pairs.transaction(write=True) as transaction:
            transaction.put({two: b"d"})
        with pairs.transaction(write=False) as transaction:
            assert list(transaction.scan(_FIRST, _END, 5)) == [(one, b"b"), (two, b"d")]

    def test_what_is_deleted_is_gone(self, pairs: KeyValueStore) -> None:
        """Keys from the lower bound on and before the upper one are deleted, those beside them are not."""
        keys = [_FIRST + bytes([n]) for n in range(6)]
        with pairs.transaction(write=True) as transaction:
            transaction.put(dict.fromkeys(keys, b"value"))
        with pairs.transaction(write=True) as transaction:
            transaction.delete(keys[1], keys[4])
            transaction.delete(keys[5] + b"\0", _END)
            assert [key for key, _ in transaction.scan(_FIRST, _END, 10)] == [keys[0], *keys[4:]]
            assert transaction.get(keys) == dict.fromkeys([keys[0], *keys[4:]], b"value")

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_what_raises_is_undone(
        self, pairs: KeyValueStore, open_store: OpenStore, error: type[BaseException]
    ) -> None:
        """A block that raises anything leaves the store as it was, and its exception is the caller's."""
        with pairs.transaction(write=True) as transaction:
            transaction.put({_FIRST: b"old"})

        def break_off() -> None:
            with pairs.transaction(write=True) as transaction:
                transaction.put({_FIRST: b"new", _FIRST + b"1": b"new"})
                raise error

        with pytest.raises(error):
            break_off()
        with open_store() as other:
            assert isinstance(other, KeyValueStore)
            with other.transaction(write=True) as transaction:
                assert list(transaction.scan(_FIRST, _END, 5)) == [(_FIRST, b"old")]

    @pytest.mark.parametrize("shared", [False, True], ids=["another handle", "the same handle"])
    def test_a_read_sees_one_state(self, pairs: KeyValueStore, open_store: OpenStore, shared: bool) -> None:
        """What others write during a read is not seen in it, and is seen in the next."""
        one, two = _FIRST + b"1", _FIRST + b"2"
        with pairs.transaction(write=True) as transaction:
            transaction.put({one: b"old", two: b"old"})

        def write(store: KeyValueStore) -> None:
            with store.transaction(write=True) as transaction:
                transaction.put({one: b"new", two: b"new", _FIRST + b"3": b"new"})

        with open_store() as other:
            assert isinstance(other, KeyValueStore)
            writer = other if not shared else pairs
            with pairs.transaction(write=False) as transaction:
                first = transaction.get([one])
                written = _beside(lambda: write(writer))
                assert {**first, **dict(transaction.scan(two, _END, 5))} == {one: b"old", two: b"old"}
            written()
            with pairs.transaction(write=False) as transaction:
                assert [value for _, value in transaction.scan(_FIRST, _END, 5)] == [b"new"] * 3

    @pytest.mark.parametrize("shared", [False, True], ids=["another handle", "the same handle"])
    def test_writes_come_one_after_the_other(
        self, pairs: KeyValueStore, open_store: OpenStore, shared: bool
    ) -> None:
        """A write that begins during another waits for its end before it reads, and then sees what it wrote."""

        def write(store: KeyValueStore, mark: bytes, pause: Callable[[], object] = lambda: None) -> None:
            with store.transaction(write=True) as transaction:
                pause()
                held = transaction.get([_FIRST]).get(_FIRST, b"")
                transaction.put({_FIRST: held + mark})

        written = list[Callable[[], None]]()
        with open_store() as other:
            assert isinstance(other, KeyValueStore)
            writer = other if not shared else pairs
            write(pairs, b"1", lambda: written.append(_beside(lambda: write(writer, b"2"))))
            written[0]()
            with pairs.transaction(write=False) as transaction:
                assert transaction.get([_FIRST]) == {_FIRST: b"12"}


def _beside(act: Callable[[], None]) -> Callable[[], None]:
    """Do something in another thread, for as long as it may have to wait; give what ends it, and raises its error."""
    errors = list[BaseException]()

    def run() -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_WAITS)

    def end() -> None:
        thread.join(20)
        assert not thread.is_alive(), "a transaction in another thread did not come to its end"
        if errors:
            raise errors[0]

    return end
