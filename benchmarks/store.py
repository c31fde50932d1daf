"""CPU seconds per 100,000 rows of the store's row work: ``python benchmarks/store.py [ROWS] [FILE]``.

With ``--sqlalchemy`` the example of a store of one's own does the same afterwards, on SQLite as well.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path

from batchkit.ids import Digest, Nonce, RowId, RowKey, row_id
from batchkit.model import PAGE, Intent, NewRun, Place, Seal, Settled, SourceRow, Usage, Where
from batchkit.reasons import Reason
from batchkit.states import RowEvent, RowState
from batchkit.storage import Store
from batchkit.storage.sqlite import SQLiteStore

CHUNK = 5_000
BATCH = 40_000
ANSWER = json.dumps(
    {"category": "Kitchen", "features": ["steel", "1.7 l", "cordless"], "summary": "x" * 100}
).encode()


def source(rows: int) -> Iterator[list[SourceRow]]:
    """Give pages of records of about 250 bytes."""
    for first in range(0, rows, PAGE):
        yield [
            SourceRow(
                n,
                RowKey(key := f"SKU-{n:08d}"),
                json.dumps(
                    [n, key, {"brand": "Acme", "text": f"Kettle {n} " + "of steel " * 20, "color": None}]
                ).encode(),
                220,
            )
            for n in range(first, min(rows, first + PAGE))
        ]


class Stopwatch:
    """Adds up CPU and wall seconds of what runs inside ``with`` blocks of one name."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._spent: dict[str, tuple[float, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        before = self._spent.get(name, (0.0, 0.0))
        self._spent[name] = (before[0] + time.process_time() - cpu, before[1] + time.perf_counter() - wall)

    def report(self) -> None:
        """Print one line per name."""
        for name, (cpu, wall) in self._spent.items():
            print(
                f"{name:26} {cpu:7.3f} CPU s {wall:7.3f} wall s {cpu * 100_000 / self._rows:7.3f} CPU s per 100,000 rows"
            )


def main() -> None:
    """Freeze, seal, take, settle, tally and read once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=100_000)
    parser.add_argument("file", nargs="?", default=None)
    parser.add_argument("--sqlalchemy", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_all(options.rows, SQLiteStore(Path(options.file or Path(folder) / "store.db")))
        if options.sqlalchemy:
            print("\nexamples/sqlalchemy_store.py")
            run_all(options.rows, sqlalchemy_store(Path(folder) / "own.db"))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def sqlalchemy_store(path: Path) -> Store:
    """Open the example's store on a SQLite file."""
    from sqlalchemy import create_engine

    example = run_path(str(Path(__file__).parents[1] / "examples" / "sqlalchemy_store.py"))
    store: Store = example["SQLAlchemyStore"](create_engine(f"sqlite:///{path}"))
    return store


def run_all(rows: int, store: Store) -> None:
    """Time every operation on an empty store."""
    watch = Stopwatch(rows)
    run, _ = store.open_run(NewRun(name="bench", spec=Digest("0" * 64)))
    lease = store.acquire(run.id, "bench", 600)
    assert lease is not None
    for page in source(rows):
        with watch("freeze"):
            store.freeze(lease, page)
    with watch("seal"):
        store.freeze(lease, [], seal=Seal(count=rows))
    with watch("tally, all pending"):
        store.tally(run.id)
    ids = [row_id(run.id, n) for n in range(rows)]
    batches = []
    for n, first in enumerate(range(0, rows, BATCH)):
        place = Place(base_url=f"https://example.test/{n}")  # one place each: none waits for another here
        intent = Intent(
            nonce=Nonce(f"{n:08d}"), size=1, place=place, head=None, reserve=1, cap=None, deadline=2e9
        )
        with watch("intend"):
            batches.append(store.intend(lease, intent, ids[first : first + BATCH]))
    for first in range(0, rows, CHUNK):
        with watch("rows with source"):
            store.rows(ids[first : first + CHUNK], source=True)
    draw = random.Random(7)
    for batch in batches:
        members = list(store.members(batch.id).rows)
        draw.shuffle(members)
        for step in (PAGE, CHUNK):
            for first in range(0, len(members), step):
                with watch(f"the same, shuffled, by {step}"):
                    store.rows([RowId(row) for row in members[first : first + step]], source=True)
    for batch in batches:
        members = list(store.members(batch.id).rows)
        draw.shuffle(members)
        for first in range(0, len(members), CHUNK):
            settled = [line(RowId(row)) for row in members[first : first + CHUNK]]
            with watch("settle, shuffled"):
                store.settle(lease, batch.id, settled)
    with watch("tally, settled"):
        store.tally(run.id)
    pending = frozenset({RowState.PENDING})
    with watch("tail"):
        store.page(run.id, Where(states=pending), limit=rows)
    with watch("tail with source"):
        store.page(run.id, Where(states=pending, source=True), limit=rows)
    with watch("locate 200 keys"):
        store.locate(run.id, [RowKey(f"SKU-{n * 7:08d}") for n in range(200)])
    for name, where in (("every row", Where()), ("every row with its result", Where(results=True))):
        after = None
        with watch(name):
            while views := store.page(run.id, where, after=after, limit=CHUNK):
                after = views[-1].id
    store.close()
    watch.report()


def line(row: RowId) -> Settled:
    """Give one line's result: 59 of 60 are valid."""
    if row % 60:
        return Settled(
            row,
            RowEvent.ACCEPTED,
            None,
            0,
            1,
            0,
            answer=ANSWER,
            usage=Usage(900, 80),
            cost=650_000,
            model="m",
        )
    bad = Reason.OUTPUT_SCHEMA
    return Settled(row, RowEvent.RETRIED, bad, 0, 1, 0, bad, "[]", b"{}", Usage(900, 80), 650_000, "m")


if __name__ == "__main__":
    main()
