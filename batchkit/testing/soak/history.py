"""One seeded history of a batchkit run: two processes, deaths, freezes, an unreliable provider, a person."""

from __future__ import annotations

import contextlib
import hashlib
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from batchkit.api import Gateway
from batchkit.builder import RequestBuilder
from batchkit.collector import ResultCollector
from batchkit.equations import count
from batchkit.errors import LeaseLost, StoreError, UsageError
from batchkit.holding import adopt, declare_absent, look_again
from batchkit.model import Batch, BatchWhere, Run
from batchkit.mover import Mover, Parts
from batchkit.progress import Progress
from batchkit.requests import ask
from batchkit.states import BatchState, RunState
from batchkit.storage import Store
from batchkit.storage.sqlite import SQLiteStore
from batchkit.submitter import ChunkedSubmitter
from batchkit.testing.clock import SimulatedClock
from batchkit.testing.faults import (
    Chances,
    FaultyAPI,
    JumpyClock,
    Killed,
    UnreliableAPI,
    faulty_store,
)
from batchkit.testing.http import Request
from batchkit.testing.simulator import SimulatedAPI
from batchkit.testing.soak.holds import Holds
from batchkit.testing.soak.light import LightClient
from batchkit.testing.soak.scene import PREFIX, SPEC, Label, Outcome, Setup, rows_of
from batchkit.testing.soak.surroundings import Surroundings
from batchkit.watch import twins_of
from batchkit.workflow import Workflow

__all__ = ["History"]

HOUR = 3_600.0
DAY = 24 * HOUR
LONGEST = 10 * DAY
"""Virtual time after which a run that has not ended is a violation: two days of readings, a batch's life, a watch, slack."""
NAME = "run"


class History:
    """One run from its start to the end of everything that it waits for.

    Args:
        seed: Decides everything.
        setup: What it is played under.
        around: The provider, where other stores send to it too.
        letter: What the keys of its rows begin with, and those of no other store.
    """

    def __init__(
        self, seed: int, setup: Setup, around: Surroundings | None = None, letter: str = "S"
    ) -> None:
        self.seed = seed
        self.setup = setup
        self.rng: random.Random = random.Random(f"{seed}:history")
        self.around: Surroundings = around or Surroundings(seed, setup, self.rng)
        self.sim: SimulatedAPI = self.around.sim
        self.api: UnreliableAPI = self.around.api
        self.steady: SimulatedClock = self.around.steady
        self.clock: JumpyClock = JumpyClock(self.steady)
        self.letter = letter
        self.rows: list[dict[str, str]] = rows_of(self.rng, setup.rows, letter)
        self.on_disk: bool = seed % 10 == 9
        self.path: Path | None = None
        self.frozen: bool = False
        self.held: int = 0
        self.passes: int = 0
        self.deaths: int = 0
        self.hours: float = 0.0
        self.holds: Holds = Holds()
        self.violations: list[str] = []
        self.processes: list[Process] = []

    def play(self) -> Outcome:
        """Play it."""
        with self.opened():
            while not self.turn():
                pass
            return self.judged()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Freeze the rows and start the processes; let go of everything at the end."""
        with contextlib.ExitStack() as stack:
            if self.on_disk:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-", dir=_memory_disk()))
                self.path = Path(folder) / "store.db"
            # The waits between attempts of a read are drawn from the process-wide generator.
            stack.enter_context(_seeded(self.seed))
            self.store: Store = SQLiteStore(self.path or ":memory:", clock=self.clock)
            stack.callback(self.store.close)
            flow: Workflow[Label] = Workflow(SPEC, store=self.store, clock=self.clock)
            self.schema: Mapping[str, Any] = flow.schema
            flow.start(NAME, self.rows, unlocked=True)
            self.processes = [Process(self, 0), Process(self, 1)]
            for process in self.processes:
                stack.callback(process.close)
            yield

    # ---------------------------------------------------------------- the course of things

    @property
    def due(self) -> float:
        """Give when something happens next."""
        return min(process.due for process in self.processes)

    def turn(self) -> bool:
        """Let time go on to the next pass, and make it; give whether everything is over."""
        self.hours = self.around.hours
        if self.hours * HOUR > LONGEST:
            self.violations.append(f"it did not end in {self.hours:.0f} h: {self._standing()}")
            return True
        if self.hours * HOUR > self.setup.storm:
            self._calm()
        process = min(self.processes, key=lambda one: one.due)
        self.steady.sleep(max(process.due - self.sim.now, 0.0))
        if not self.api.calm:
            if self.rng.random() < 0.01 * self.setup.fault_rate + self.setup.jumps:
                self.clock.jump(self.rng.choice([-DAY, -HOUR, HOUR, DAY]))
            if (self.setup.rotate or self.setup.astray) and self.rng.random() < 0.1:
                process.restart()
        progress = process.step()
        self.holds.look(self.store, self.sim.now)
        self.hours = self.around.hours
        if self.violations:
            return True
        if progress is None:
            return False
        if progress.done and progress.wake_at is None:
            return True
        if progress.needs and (progress.wake_at is None or self.rng.random() < 0.05):
            self._person(progress)
        return False

    def _calm(self) -> None:
        begins, self.api.calm = not self.api.calm, True
        for process in self.processes:
            process.chances.calm()
            if begins and self.setup.astray:
                process.restart()

    def freeze(self, frozen: Process) -> None:
        """Let one process stand still in the middle of a pass, while time goes by and the other moves."""
        rate = 0.0 if self.api.calm else 0.02 * self.setup.fault_rate
        if self.frozen or self.rng.random() >= rate:
            return
        self.frozen = True
        try:
            self.steady.sleep(self.rng.uniform(5.0, 300.0))
            for other in self.processes:
                if other is not frozen:
                    for _ in range(self.rng.randint(1, 3)):
                        other.step()
        finally:
            self.frozen = False

    def run(self) -> Run:
        """Give the run as it is now."""
        return self.store.runs(name=NAME)[0]

    def _standing(self) -> str:
        states = Counter(batch.state.value for batch in self.store.batches(BatchWhere()))
        return f"run {self.run().state.value}, batches {dict(states)}"

    # ---------------------------------------------------------------- a person, who sees the provider's console

    def _person(self, progress: Progress) -> None:
        """Let somebody look: what paused is let go on, what is held is decided by what the provider has."""
        run = self.run()
        if run.state is RunState.PAUSED:
            self.held += 1
            ask(self.store, run, "unpause", why="looked at", by="operator")
        held = self.store.batches(BatchWhere(run=run.id, states=frozenset({BatchState.HELD})))
        for batch in held:
            lease = self.store.acquire(run.id, "operator", 60.0)
            if lease is None:
                return
            self.held += 1
            try:
                self._decide(lease, batch)
            except UsageError as error:
                self.violations.append(f"a person could not decide about batch {batch.id}: {error}")
            finally:
                self.store.release(lease)

    def _decide(self, lease: Any, batch: Batch) -> None:
        sent = [create for create in self.api.creates if _nonce(create.custom_ids) == batch.nonce]
        made = [create.batch_id for create in sent if create.batch_id is not None]
        late = any(create.batch_id is None and create.fault is not None for create in sent)
        coming = late and self.sim.now < max(create.at for create in sent) + self.setup.lateness + 1.0
        if batch.held_from is not BatchState.DOUBTFUL or coming:
            look_again(self.store, lease, batch.id)
        elif made:
            adopt(self.store, lease, batch.id, made[0])  # type: ignore[arg-type]
        else:
            declare_absent(self.store, lease, batch.id, by="operator", force=True)

    # ---------------------------------------------------------------- what must hold

    def judged(self) -> Outcome:
        """Compare the provider's bill with what was recorded."""
        run = self.run()
        tally = self.store.tally(run.id)
        results = self.store.results(run.id, limit=1_000_000)
        batches = self.store.batches(BatchWhere())
        mine = PREFIX + self.letter
        ours = [entry for entry in self.sim.bill().entries() if str(entry["custom_id"]).startswith(mine)]
        paid = [result for result in results if result.usage is not None]
        # What a twin brings beyond what rows could use is booked with the twin, not as a result.
        shares = [share for batch in batches for twin in twins_of(batch) for share in twin.shares]
        booked = sum(share.lines for share in shares if any(share.usage))
        double_paid = len(ours) - len(paid)
        lost = len(self.rows) - tally.total + tally.open if not self.violations else 0
        holder = {create.batch_id: _nonce(create.custom_ids) for create in self.api.creates}
        wrong = sum(b.remote_id is not None and holder.get(b.remote_id) != b.nonce for b in batches)
        outcome = Outcome(
            seed=self.seed,
            rows=len(self.rows),
            lost=lost,
            double_paid=double_paid,
            reported=booked,
            wrong_adoptions=wrong,
            hours=self.hours,
            held=self.held,
            holds=tuple(self.holds.ended),
            doubts=sum(event_kind == "doubt.opened" for event_kind in self._kinds()),
            digest=self._digest(),
        )
        bad = self.violations
        if lost:
            bad.append(f"{lost} rows lost")
        if wrong:
            bad.append(f"{wrong} batches adopted that are not ours")
        if misplaced := self.around.misplaced(batches):
            bad.append(f"batches {misplaced} were made in another workspace than their intents name")
        if outcome.unreported > 0:
            bad.append(f"{outcome.unreported} lines paid twice and not reported")
        if outcome.unreported < 0:
            bad.append(f"{-outcome.unreported} results recorded that the provider did not bill")
        if double_paid and self.setup.lateness + self.setup.lag < self.setup.grace:
            bad.append(f"{double_paid} lines paid twice, though nothing came later than the grace")
        twice = [
            nonce for nonce, n in Counter(_nonce(c.custom_ids) for c in self.api.creates).items() if n > 1
        ]
        if twice:
            bad.append(f"the body of one batch was sent more than once: {twice}")
        if run.state is RunState.CLOSED:
            equations = count(self.store, run, tally=tally)
            if not equations.hold:
                bad.append(
                    f"the equations do not hold: {equations.rows}; {equations.submissions}; {equations.money}"
                )
        tokens = sum(entry["usage"]["input_tokens"] + entry["usage"]["output_tokens"] for entry in ours)
        usages = [*(result.usage for result in paid), *(share.usage for share in shares)]
        counted = sum(usage.input + usage.output for usage in usages if usage is not None)
        if not bad and outcome.unreported == 0 and tokens != counted:
            bad.append(f"{counted} tokens recorded, {tokens} billed")
        return attrs.evolve(outcome, violations=tuple(bad))

    def _kinds(self) -> Iterator[str]:
        from batchkit.standing import read_events

        return (event.kind for event in read_events(self.store, self.run()))

    def _digest(self) -> str:
        told = repr([(c.at, c.custom_ids, c.fault, c.batch_id) for c in self.api.creates])
        return hashlib.sha256(f"{told}{self.passes}{self.sim.now}".encode()).hexdigest()[:16]


class Process:
    """One process that moves the run, until it dies and another takes its place."""

    def __init__(self, history: History, number: int) -> None:
        self._history = history
        self._rng = random.Random(f"{history.seed}:process:{number}")
        # Started by cron now and then, or waiting, which looks again when it was told to while there is a doubt.
        self._cadence = self._rng.choice([900.0, 1_500.0, 1_800.0, 3_600.0])
        self._waits = self._rng.random() < 0.5
        self.due: float = history.sim.now + number * self._rng.uniform(0.0, 600.0)
        self._lives = 0
        self._number = number
        self._own: SQLiteStore | None = None
        self._be_born()

    def _be_born(self) -> None:
        history, setup = self._history, self._history.setup
        self._lives += 1
        rate = 0.0 if history.api.calm else setup.fault_rate
        self.chances: Chances = Chances(self._rng, raising=0.005 * rate, killing=0.01 * rate)
        if history.path is not None:
            self._own = SQLiteStore(history.path, clock=history.clock)
        store = faulty_store(self._own or history.store, self.chances)
        api = FaultyAPI(history.api, self.chances, meanwhile=self._pause)
        client: Any = LightClient(api, history.around.key(self._number, self._rng))
        if setup.sdk:
            from batchkit.testing.client import simulated_client

            client = simulated_client(api=api)
        gateway = Gateway(client, clock=history.clock)
        builder = RequestBuilder(SPEC, schema=history.schema)
        submitter = ChunkedSubmitter(
            store,
            gateway,
            builder=builder,
            max_rows=setup.most or max(len(history.rows) // 3, 1),
            grace=setup.grace,
            clock=history.clock,
            rng=self._rng,
            entropy=self._rng.randbytes,
        )
        collector = ResultCollector(store, gateway, builder=builder, clock=history.clock, rng=self._rng)
        owner = f"process-{self._number}-{self._lives}"
        self._parts: Parts[Label] = Parts(
            spec=SPEC,
            store=store,
            submitter=submitter,
            collector=collector,
            clock=history.clock,
            owner=lambda: owner,
        )

    def restart(self) -> None:
        """End between two passes and begin anew, as a deployment does."""
        self.close()
        self._be_born()

    def _pause(self, _: Request) -> None:
        self._history.freeze(self)

    def step(self) -> Progress | None:
        """Make one pass; None where it did not live to see its end, or the store failed."""
        history = self._history
        history.passes += 1
        progress: Progress | None = None
        try:
            progress = Mover(history.run(), self._parts).advance()
        except Killed:
            history.deaths += 1
            self.restart()
        except (LeaseLost, StoreError) as error:
            if not isinstance(error, LeaseLost) and "(injected)" not in str(error):
                history.violations.append(f"the store refused: {error!r}\n{traceback.format_exc()}")
        except Exception as error:
            history.violations.append(f"a pass raised {error!r}\n{traceback.format_exc()}")
        self._wait(progress)
        return progress

    def _wait(self, progress: Progress | None) -> None:
        history = self._history
        if progress is None or progress.wake_at is None:
            self.due = history.sim.now + max(self._cadence, 60.0)
            return
        prompt = self._waits and progress.batches_doubtful
        nap = max(progress.wake_at - history.clock.now(), 60.0 if prompt else self._cadence)
        self.due = history.sim.now + (nap if progress.done else min(nap, HOUR))

    def close(self) -> None:
        """Let go of a file without another word, as the end of a process does."""
        if self._own is not None:
            self._own._db.close()
            self._own = None


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _memory_disk() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _nonce(custom_ids: tuple[str, ...]) -> str:
    return custom_ids[0].rpartition("-")[2] if custom_ids else ""
