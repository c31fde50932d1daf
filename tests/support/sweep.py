"""One small run that fails at its k-th operation, is taken up again, and is counted at the provider."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pg import empty

from batchkit.api import Gateway
from batchkit.builder import RequestBuilder
from batchkit.collector import ResultCollector
from batchkit.equations import count
from batchkit.errors import LeaseLost, StoreError
from batchkit.model import BatchWhere
from batchkit.mover import Mover, Parts
from batchkit.progress import Progress
from batchkit.states import BatchState, RunState
from batchkit.storage import Store
from batchkit.storage.postgres import PostgresStore
from batchkit.storage.sqlite import SQLiteStore
from batchkit.submitter import ChunkedSubmitter
from batchkit.testing import Handler, Latency, SimulatedAPI, SimulatedClock
from batchkit.testing.faults import FaultyAPI, Killed, Nth, Way, die_in_process, faulty_store
from batchkit.testing.soak.light import LightClient
from batchkit.testing.soak.scene import SPEC, Label, model
from batchkit.watch import twins_of
from batchkit.workflow import Workflow

Target = Literal["store", "http"]
MEMORY = ":memory:"
"""A store in memory: whoever moves its run may fail, and nobody can take over from a process that died."""
STORES_AND_WAYS = [
    (place, way)
    for place in ("file", "memory", "postgres")
    for way in Way
    if not (way.kills and place == "memory")
]
"""What a sweep takes, for the fixture `kept`: what is in memory dies with its process."""
WORDS = ["fine", "fine", "flaky", "broken", "chatty", "overload", "sparse", "fine", "refused"]
ROWS = [{"sku": f"S{n}", "word": word} for n, word in enumerate(WORDS)]
"""Three batches of three, then a resend, two escalations, and the retry of an answer that was broken off."""


class Scene:
    """A store and a provider's journal in a folder, which outlive every process.

    Args:
        folder: where the journal is, and the store's file.
        lives: how many processes were there before.
        database: what to keep the store in instead of a file: memory, or the address of a store on PostgreSQL.
    """

    def __init__(self, folder: Path, *, lives: int = 0, database: str | None = None) -> None:
        self.path = folder / "store.db"
        self.database = database
        self.sim = SimulatedAPI(model, seed=3, latency=Latency(60.0, 120.0), state=folder / "sim")
        self.clock = SimulatedClock(self.sim)
        self.lives = lives
        self._memory: SQLiteStore | None = None

    def open(self) -> PostgresStore | SQLiteStore:
        """Open the store, as another process would; there is only one in memory."""
        if self.database == MEMORY:
            self._memory = self._memory or SQLiteStore(MEMORY, clock=self.clock)
            return self._memory
        if self.database is not None:
            return PostgresStore(self.database, clock=self.clock)
        return SQLiteStore(self.path, clock=self.clock)

    @contextmanager
    def opened(self) -> Iterator[PostgresStore | SQLiteStore]:
        """Open the store, and let go of it without another word, as the end of a process does."""
        store = self.open()
        try:
            yield store
        finally:
            if store is not self._memory:
                store._db.close()

    def end(self) -> None:
        """Let go of what outlives a process."""
        self.sim.close()
        if self._memory is not None:
            self._memory.close()

    def start(self) -> None:
        """Freeze the rows."""
        with self.opened() as store:
            Workflow(SPEC, store=store, clock=self.clock).start("run", ROWS, unlocked=True)

    def parts(self, store: Store, api: Handler) -> Parts[Label]:
        """Put together what moves the run in one life: the same operations each time, but no nonce of an earlier life."""
        self.lives += 1
        rng = random.Random(f"life {self.lives}")
        owner = f"life-{self.lives}"
        gateway = Gateway(LightClient(api), clock=self.clock)  # type: ignore[arg-type]
        options: dict[str, Any] = {
            "builder": RequestBuilder(SPEC, schema=_schema()),
            "clock": self.clock,
            "rng": rng,
        }
        return Parts(
            spec=SPEC,
            store=store,
            submitter=ChunkedSubmitter(store, gateway, max_rows=3, entropy=rng.randbytes, **options),
            collector=ResultCollector(store, gateway, **options),
            clock=self.clock,
            owner=lambda: owner,
        )

    def run(self, faults: Nth, target: Target) -> bool:
        """Move the run in a process of its own until it is done; False where the process died."""
        with self.opened() as real:
            store = faulty_store(real, faults) if target == "store" else real
            api = FaultyAPI(self.sim, faults) if target == "http" else self.sim
            parts = self.parts(store, api)
            progress: Progress | None = None
            try:
                for _ in range(500):
                    wake = self.clock.now() + 60.0
                    try:
                        progress = Mover(real.runs(name="run")[0], parts).advance()
                    except StoreError as error:
                        if not isinstance(error, LeaseLost) and "(injected)" not in str(error):
                            raise
                    else:
                        if progress.done:
                            return True
                        assert progress.wake_at is not None, progress.needs
                        wake = progress.wake_at
                    self.clock.sleep(max(wake - self.clock.now(), 1.0))
                raise AssertionError(f"it did not end: {progress}")
            except Killed:
                return False

    def check(self) -> list[str]:
        """Say what is not as it must be, counted at the provider."""
        with self.opened() as store:
            run = store.runs(name="run")[0]
            tally = store.tally(run.id)
            batches = store.batches(BatchWhere())
            paid = sum(result.usage is not None for result in store.results(run.id, limit=10_000))
            times = Counter(entry["custom_id"] for entry in self.sim.bill().entries())
            wrong = {
                f"the run is {run.state.value}": run.state is RunState.CLOSED,
                f"{tally.total} of {len(ROWS)} rows": tally.total == len(ROWS),
                f"{tally.open} rows open": tally.open == 0,
                f"billed {sum(times.values())}, recorded {paid}": sum(times.values()) == paid,
                f"paid twice: {[i for i, n in times.items() if n > 1]}": max(times.values()) == 1,
                "the equations do not hold": count(store, run, tally=tally).hold,
                "a batch is short of lines": all(
                    batch.lines == batch.count for batch in batches if batch.state is BatchState.COLLECTED
                ),
                "twins": not any(twins_of(batch) for batch in batches),
            }
            return [what for what, right in wrong.items() if not right]


@functools.cache
def operations(target: Target, *, database: str | None = None) -> list[str]:
    """Name the operations of a run in which nothing fails."""
    with _folder() as folder:
        clear(database)
        scene, counted = Scene(Path(folder), database=database), Nth()
        scene.start()
        assert scene.run(counted, target)
        assert scene.check() == []
        scene.end()
        return counted.operations


def events() -> set[str]:
    """Name what becomes of the answers in a run in which nothing fails."""
    with _folder() as folder:
        scene = Scene(Path(folder))
        scene.start()
        assert scene.run(Nth(), "store")
        scene.end()
        with scene.opened() as store:
            return {str(result.event.value) for result in store.results(store.runs()[0].id, limit=1_000)}


def sweep(
    target: Target, ways: Sequence[Way], *, step: int = 1, first: int = 1, database: str | None = None
) -> Iterator[tuple[int, Way, list[str]]]:
    """Let each operation fail in each way; give what was wrong afterwards. A killed process is a forked child."""
    total = len(operations(target, database=database))
    for at in range(first, total + 1, step):
        for way in ways:
            with _folder() as folder:
                yield at, way, _one(Path(folder), target, at, way, database=database)


def killed_afresh(
    target: Target, operation: str, way: Way, nth: int = 1, *, database: str | None = None
) -> list[str]:
    """Kill a fresh interpreter at the n-th operation of a name, go on in this one; give what was wrong."""
    named = [
        number for number, name in enumerate(operations(target, database=database), 1) if name == operation
    ]
    with _folder() as folder:
        return _one(Path(folder), target, named[nth - 1], way, fresh=True, database=database)


def _one(
    folder: Path, target: Target, at: int, way: Way, *, fresh: bool = False, database: str | None = None
) -> list[str]:
    clear(database)
    if way.kills:
        if fresh:
            script = (
                f"import sweep; sweep.die_at({str(folder)!r}, {target!r}, {at}, {way.value!r}, {database!r})"
            )
            paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
            command = [sys.executable, "-c", script]
            killed = (
                subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False).returncode < 0
            )
        else:
            child = os.fork()
            if not child:
                die_at(folder, target, at, way, database)
            killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        if not killed:
            return [f"operation {at} was not reached, or not survived"]
        scene = Scene(folder, lives=1, database=database)
        if not _frozen(scene):
            scene.start()
        # The lease of the dead runs out; everything else goes on at once.
        scene.clock.sleep(61.0)
        ended = scene.run(Nth(), target)
    else:
        scene = Scene(folder, database=database)
        scene.start()
        ended = scene.run(Nth(at, way, die=die_in_process), target)
    wrong = [] if ended else ["it died"]
    wrong += scene.check()
    scene.end()
    return wrong


@functools.cache
def _schema() -> Mapping[str, Any]:
    """Give the wire schema without an operation of the store that is swept."""
    return Workflow(SPEC, store=":memory:").schema


def _frozen(scene: Scene) -> bool:
    with scene.opened() as store:
        return bool(store.runs(name="run"))


def die_at(folder: Path | str, target: Target, at: int, way: str, database: str | None) -> None:
    """Run until the process ends at an operation."""
    try:
        scene = Scene(Path(folder), database=database)
        scene.start()
        scene.run(Nth(at, Way(way)), target)
    finally:
        os._exit(3)


def named(database: str | None) -> str:
    """Say where a store is kept."""
    return {None: "in a SQLite file", MEMORY: "in memory"}.get(database, "on PostgreSQL")


def clear(database: str | None) -> None:
    """Make a store on a server empty: one in a file or in memory is a new one each time."""
    if database is not None and database != MEMORY:
        empty(database)


def _folder() -> tempfile.TemporaryDirectory[str]:
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="sweep-", dir=memory if memory.is_dir() else None)
