"""A run, a store and a simulated API put together, for tests of how batches are sent and collected."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs
from pydantic import BaseModel

from batchkit.api import Gateway
from batchkit.builder import RequestBuilder
from batchkit.collector import Collected, ResultCollector
from batchkit.contract import Contract
from batchkit.escalator import Escalator
from batchkit.ids import BatchId
from batchkit.model import Batch, BatchWhere, Lease, NewRun, RowView, Run, Seal, Tally, Where
from batchkit.policy import Policy
from batchkit.prompt import Prompt
from batchkit.source import Freezer, records
from batchkit.spec import Spec
from batchkit.states import BatchState, RowState
from batchkit.storage.sqlite import SQLiteStore
from batchkit.submitter import ChunkedSubmitter, Sent
from batchkit.testing import (
    Answer,
    Dropped,
    Handler,
    Latency,
    Model,
    Request,
    Response,
    SimulatedAPI,
    SimulatedClock,
    simulated_client,
)
from batchkit.tier import Tier
from batchkit.validator import Validator


class Label(BaseModel):
    """The smallest contract with something to get wrong."""

    color: Literal["red", "green"]


VALID = json.dumps({"color": "red"})


def answers(by_key: Mapping[str, Answer], default: str = VALID) -> Model:
    """Give a model that answers by the word that stands in the prompt."""

    def model(params: Mapping[str, Any], rng: random.Random) -> Answer:
        text = json.dumps(params["messages"])
        return next((answer for key, answer in by_key.items() if key in text), Answer(text=default))

    return model


class Faulty:
    """A simulator that answers some requests in a way of its own.

    ``rules`` are asked in order; the first that gives a response wins. A rule may call the real handler
    itself, for effects without an answer.
    """

    def __init__(self, api: SimulatedAPI) -> None:
        self.api = api
        self.rules: list[Callable[[Request, Handler], Response | None]] = []
        self.seen: list[tuple[str, str]] = []

    def handle(self, request: Request) -> Response:
        self.seen.append((request.method, request.path))
        for rule in self.rules:
            response = rule(request, self.api)
            if response is not None:
                return response
        return self.api.handle(request)

    @property
    def now(self) -> float:
        return self.api.now

    def advance(self, seconds: float) -> float:
        return self.api.advance(seconds)

    def count(self, method: str, tail: str) -> int:
        return sum(m == method and p.endswith(tail) for m, p in self.seen)

    @property
    def posts(self) -> int:
        return self.count("POST", "/batches")


def held_back(faults: Faulty) -> list[Request]:
    """Keep the first create from the API; it is in the list that is given, to be let through later."""
    kept: list[Request] = []

    def rule(request: Request, api: Handler) -> Response | None:
        if request.method != "POST" or not request.path.endswith("/batches") or kept:
            return None
        body = request.body if isinstance(request.body, bytes) else b"".join(request.body)
        kept.append(attrs.evolve(request, body=body))
        raise Dropped("held back")

    faults.rules.append(rule)
    return kept


class Rig:
    """One frozen run over a simulated API, with the parts that move it."""

    def __init__(
        self,
        rows: int | Iterable[Mapping[str, Any]] = 10,
        *,
        model: Model | None = None,
        max_rows: int = 100,
        policy: Policy | None = None,
        contract: Contract[Label] | None = None,
        client: Any = None,
        clock: Any = None,
        path: str = ":memory:",
        seed: int = 7,
        **settings: Any,
    ) -> None:
        latency = settings.pop("latency", Latency(min=60.0, max=120.0))
        sizes = {name: settings.pop(name) for name in list(settings) if name in _SUBMITTER}
        self.sim = SimulatedAPI(model or answers({}), latency=latency, **settings)
        self.faults = Faulty(self.sim)
        self.clock = clock or SimulatedClock(self.sim)
        self.gateway = Gateway(client or simulated_client(api=self.faults), clock=self.clock)
        self.store = SQLiteStore(path, clock=self.clock)
        self.spec: Spec[Label] = Spec(
            contract or Contract(Label),
            Prompt("Word: {word}"),
            key="sku",
            prefix="t_",
            tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
            policy=policy or Policy.default(),
        )
        self.builder = RequestBuilder(self.spec)
        self.rng = random.Random(seed)
        self.sizes = {"max_rows": max_rows, **sizes}
        self.rebuild()
        records_in = (
            [{"sku": f"S{n:04}", "word": f"w{n:04}"} for n in range(rows)] if isinstance(rows, int) else rows
        )
        self.run = self._freeze(records_in)
        self.lease = self.take()

    def rebuild(self) -> None:
        """Make submitter and collector anew, as another process would."""
        self.submitter = ChunkedSubmitter(
            self.store,
            self.gateway,
            builder=self.builder,
            clock=self.clock,
            rng=self.rng,
            **self.sizes,
        )
        self.collector = ResultCollector(
            self.store,
            self.gateway,
            validator=Validator(self.spec),
            escalator=Escalator(self.spec),
            builder=self.builder,
            clock=self.clock,
            rng=self.rng,
        )

    def _freeze(self, given: Iterable[Mapping[str, Any]]) -> Run:
        run, _ = self.store.open_run(NewRun(name="run", spec=self.spec.fingerprint))
        lease = self.store.acquire(run.id, "freezer", 60.0)
        assert lease is not None
        for page in Freezer(self.spec, builder=self.builder).pages(records(given)):
            self.store.freeze(lease, page)
        self.store.freeze(lease, [], seal=Seal(on_duplicate="first"))
        self.store.release(lease)
        return self.store.runs(name="run")[0]

    def take(self, owner: str = "mover") -> Lease:
        lease = self.store.acquire(self.run.id, owner, 60.0)
        assert lease is not None
        self.lease = lease
        return lease

    def send(self, **options: Any) -> Sent:
        return self.submitter.send(self.take(), self.run, **options)

    def collect(self, batch: BatchId, **options: Any) -> Collected:
        return self.collector.collect(self.take(), self.run, self.batch(batch), **options)

    def resolve(self) -> float | None:
        return self.submitter.resolve(self.take(), self.run)

    def end(self, batch: BatchId, *, most: float = 90_000.0) -> Batch:
        """Let time go by until the batch is seen to have ended."""
        until = self.clock.now() + most
        while self.batch(batch).state is BatchState.LIVE and self.clock.now() < until:
            wake = self.collector.poll(self.take(), self.run)
            if wake is not None:
                self.clock.sleep(max(wake - self.clock.now(), 1.0))
        return self.batch(batch)

    def settle_doubt(self, batch: BatchId, *, most: float = 200_000.0) -> Batch:
        """Take readings until the batch is no longer in doubt."""
        until = self.clock.now() + most
        while self.batch(batch).state is BatchState.DOUBTFUL and self.clock.now() < until:
            wake = self.resolve()
            self.clock.sleep(max((wake or 0.0) - self.clock.now(), 1.0))
        return self.batch(batch)

    def finish(self, *, most_passes: int = 2_000) -> Tally:
        """Move the run until no row is open, as a mover does."""
        for _ in range(most_passes):
            self.take()
            self.submitter.recover(self.lease, self.run)
            wakes = [self.collector.poll(self.lease, self.run)]
            ended = frozenset({BatchState.ENDED})
            for batch in self.store.batches(BatchWhere(run=self.run.id, states=ended)):
                wakes.append(self.collector.collect(self.lease, self.run, batch).wait_until)
            wakes.append(self.collector.twins(self.lease, self.run)[1])
            wakes.append(self.submitter.resolve(self.lease, self.run))
            while (sent := self.submitter.send(self.lease, self.run)).batch is not None:
                wakes.append(sent.wait_until)
            if not self.tally.open:
                return self.tally
            wake = min((w for w in wakes if w is not None), default=self.clock.now() + 60.0)
            self.clock.sleep(max(wake - self.clock.now(), 1.0))
        raise AssertionError(f"the run did not end: {self.tally.counts}")

    def batch(self, batch: BatchId) -> Batch:
        return self.store.batches(BatchWhere(ids=(batch,)))[0]

    @property
    def batches(self) -> list[Batch]:
        return list(self.store.batches(BatchWhere()))

    @property
    def tally(self) -> Tally:
        return self.store.tally(self.run.id)

    def rows(self, *states: RowState) -> list[RowView]:
        where = Where(states=frozenset(states) or None, source=True, results=True)
        return list(self.store.page(self.run.id, where, limit=100_000))

    @property
    def billed(self) -> int:
        """How many paid answers the provider counts."""
        return int(self.sim.bill().lines)


_SUBMITTER = frozenset(
    {"max_bytes", "max_in_queue", "grace", "send_deadline", "prices", "workspace", "cheap_grace"}
)
