"""CPU seconds per 100,000 rows of the store's row work: ``python benchmarks/store.py [ROWS] [FILE]``."""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from batchkit.ids import Digest, Nonce, RowKey, row_id
from batchkit.model import PAGE, Intent, NewRun, Place, Seal, Settled, SourceRow, Usage, Where
from batchkit.reasons import Reason
from batchkit.states import RowEvent, RowState
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
    """Adds up CPU seconds of what it is asked to time."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def __call__(self, name: str, work: Callable[[], object], *, rows: int | None = None) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        spent, waited = time.process_time() - cpu, time.perf_counter() - wall
        per = spent * 100_000 / (rows or self._rows)
        print(f"{name:34} {spent:7.3f} CPU s {waited:7.3f} wall s {per:7.3f} CPU s per 100,000")


def main() -> None:
    """Freeze, seal, take, settle, tally and read once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=100_000)
    parser.add_argument("file", nargs="?", default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_all(options.rows, Path(options.file or Path(folder) / "store.db"))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def run_all(rows: int, path: Path) -> None:
    """Time every operation on a store in ``path``."""
    watch = Stopwatch(rows)
    store = SQLiteStore(path)
    run, _ = store.open_run(NewRun(name="bench", spec=Digest("0" * 64)))
    lease = store.acquire(run.id, "bench", 600)
    assert lease is not None

    made = 0.0
    cpu = time.process_time()
    for page in source(rows):
        pause = time.process_time()
        made += pause - cpu
        store.freeze(lease, page)
        cpu = time.process_time()
        made -= 0.0
        frozen.append(cpu - pause)
    print(
        f"{'freeze':34} {sum(frozen):7.3f} CPU s {'':16} {sum(frozen) * 100_000 / rows:7.3f} CPU s per 100,000"
    )
    watch("seal", lambda: store.freeze(lease, [], seal=Seal(count=rows)))
    watch("tally", lambda: store.tally(run.id))

    ids = [row_id(run.id, n) for n in range(rows)]
    batches = []

    def take() -> None:
        for n, first in enumerate(range(0, rows, BATCH)):
            place = Place(base_url=f"https://example.test/{n}")  # one place each: none waits for another here
            intent = Intent(
                nonce=Nonce(f"{n:08d}"), size=1, place=place, head=None, reserve=1, cap=None, deadline=2e9
            )
            batches.append(store.intend(lease, intent, ids[first : first + BATCH]))

    watch("intend", take)

    def read_source() -> None:
        for first in range(0, rows, CHUNK):
            store.rows(ids[first : first + CHUNK], source=True)

    watch("rows with source", read_source)
    draw = random.Random(7)
    settled = 0.0
    wall = time.perf_counter()
    for batch in batches:
        members = list(store.members(batch.id).rows)
        draw.shuffle(members)
        for first in range(0, len(members), CHUNK):
            page = [
                Settled(
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
                if row % 60
                else Settled(
                    row,
                    RowEvent.RETRIED,
                    Reason.OUTPUT_SCHEMA,
                    0,
                    1,
                    0,
                    Reason.OUTPUT_SCHEMA,
                    "[]",
                    b"x",
                    Usage(900, 80),
                    650_000,
                    "m",
                )
                for row in members[first : first + CHUNK]
            ]
            start = time.process_time()
            store.settle(lease, batch.id, page)
            settled += time.process_time() - start
    print(
        f"{'settle, shuffled':34} {settled:7.3f} CPU s {time.perf_counter() - wall:7.3f} wall s "
        f"{settled * 100_000 / rows:7.3f} CPU s per 100,000"
    )
    watch("tally", lambda: store.tally(run.id))
    pending = Where(states=frozenset({RowState.PENDING}))
    watch("tail, ids and keys", lambda: store.page(run.id, pending, limit=rows))
    watch(
        "tail, with source", lambda: store.page(run.id, Where(states=pending.states, source=True), limit=rows)
    )
    watch("locate 200 keys", lambda: store.locate(run.id, [RowKey(f"SKU-{n * 7:08d}") for n in range(200)]))

    def read_all(*, answers: bool) -> None:
        after = None
        while page := store.page(run.id, Where(results=answers), after=after, limit=CHUNK):
            after = page[-1].id

    watch("every row, plain", lambda: read_all(answers=False))
    watch("every row with its result", lambda: read_all(answers=True))
    store.close()


frozen: list[float] = []

if __name__ == "__main__":
    main()
