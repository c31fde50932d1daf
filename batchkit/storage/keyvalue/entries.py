"""How a store keeps its things in an ordered map: the names of keys, and many entries at a time.

Keys are readable: a table's name, then numbers in 16 hexadecimal digits, so that their order is that of the numbers.

====================== ==============================================================
key                    value
====================== ==============================================================
``format``             the version of all this
``last/NAME``          the highest number that was drawn
``run/RUN``            a run and its lease, as a JSON array
``name/TEXT``          the run of that name
``digest/PAGE``        of a frozen page, named by its first row: its digest,
``keys/PAGE``          its keys as a JSON array,
``sizes/PAGE``         the sizes of its records,
``lines/PAGE``         the records themselves, as lines,
``rows/PAGE``          and where each of them stands, 39 bytes a row
``refusal/ROW``        why a record was refused, where there is something to say
``batch/BATCH``        a batch, as a JSON array
``members/BATCH``      the rows of a batch
``result/RESULT``      one result: a line of JSON, then the answer
``settled/RUN/LAST``   the first result of a page that was settled, by its last
``staged/SERIES/HASH`` the row of that key that the series staged last, and a hash of its content
``series/SERIES``      the last result that the index of a series knows
``document/KIND/KEY``  a document
``stranger/TEXT``      nothing: a remote batch that is not ours
====================== ==============================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from batchkit.ids import RunId, row_id
from batchkit.storage.keyvalue.transaction import Transaction

BULK: Final = 500
"""Keys in one call of the database."""


def key(table: str, *numbers: int) -> bytes:
    """Give the key of an entry that numbers name."""
    return (table + "/%016x" * len(numbers) % numbers).encode()


def named(table: str, *texts: str) -> bytes:
    """Give the key of an entry that texts name. The order of keys is that of the texts' code points."""
    return "/".join((table, *texts)).encode("utf-8", "surrogatepass")


def beyond(key: bytes) -> bytes:
    """Give what is above all keys that begin with this one and a slash, and above nothing else."""
    return key + b"0"  # the character after the slash


def number(key: bytes) -> int:
    """Give the last number of a key."""
    return int(key.rpartition(b"/")[2], 16)


def of_run(table: str, run: RunId) -> tuple[bytes, bytes]:
    """Give the bounds of the entries of a table that are named by rows of a run."""
    return key(table, row_id(run, 0)), key(table, row_id(RunId(run + 1), 0))


class Entries:
    """The entries of a store within a transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def one(self, key: bytes) -> bytes | None:
        """Give the value of a key, or None."""
        return self._transaction.get([key]).get(key)

    def some(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Give the values of any number of keys, of those that there are."""
        found, wanted = dict[bytes, bytes](), iter(keys)
        while part := list(islice(wanted, BULK)):
            found.update(self._transaction.get(part))
        return found

    def walk(self, low: bytes, high: bytes, step: int = BULK) -> Iterator[tuple[bytes, bytes]]:
        """Give the entries between two keys in order, so many at a time as are in memory at once."""
        while low < high:
            found = self._transaction.scan(low, high, step)
            yield from found
            if len(found) < step:
                return
            low = found[-1][0] + b"\0"

    def table(self, table: str) -> Iterator[bytes]:
        """Give the values of a whole table in order."""
        return (value for _, value in self.walk(named(table, ""), beyond(named(table))))

    def put(self, items: Mapping[bytes, bytes]) -> None:
        """Set any number of values."""
        given = iter(items.items())
        while part := dict(islice(given, BULK)):
            self._transaction.put(part)

    def delete(self, low: bytes, high: bytes) -> None:
        """Delete all entries between two keys."""
        self._transaction.delete(low, high)

    def last(self, name: str) -> int:
        """Give the highest number that was drawn under a name; 0 before the first."""
        return int(self.one(named("last", name)) or b"0")

    def draw(self, name: str, count: int = 1) -> int:
        """Draw numbers that nobody had; give the last of them."""
        drawn = self.last(name) + count
        self.put({named("last", name): b"%d" % drawn})
        return drawn
