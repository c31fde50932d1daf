"""An unreliable provider: a simulator behind which requests, answers and lists go wrong on a seeded schedule."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import attrs

from batchkit.testing.faults.schedule import Fault, FaultSchedule
from batchkit.testing.faults.wire import arrived
from batchkit.testing.http import Dropped, Request, Response, error_body, json_bytes, read_all

__all__ = ["Create", "UnreliableAPI"]

BATCHES = "/v1/messages/batches"


class Timed(Protocol):
    """A simulator: it answers, and it has a time of its own."""

    @property
    def now(self) -> float:
        """Virtual time, in seconds since the epoch."""
        ...

    def advance(self, seconds: float) -> float:
        """Move virtual time forward."""
        ...

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        ...

    def stranger(self, size: int, headers: Mapping[str, str]) -> str | None:
        """Let somebody else in the workspace of these headers create a batch."""
        ...


@attrs.frozen(kw_only=True)
class Create:
    """One create that was sent to its last byte.

    Attributes:
        at: When, in virtual time.
        custom_ids: What it held.
        fault: What went wrong with it.
        batch_id: The batch that it made; None where it made none (yet).
    """

    at: float
    custom_ids: tuple[str, ...]
    fault: Fault | None
    batch_id: str | None


class UnreliableAPI:
    """Stands before a simulator and spoils what passes.

    It has the simulator's `now` and `advance`, so a `SimulatedClock` takes it; creates that are late and the
    batches of strangers appear while time moves.

    Args:
        api: The simulator.
        schedule: What goes wrong, and how often.

    Attributes:
        creates: Every create that arrived whole, in order: the bodies that were really sent.
        calm: Set it to True, and nothing goes wrong any more; what is late still comes.
    """

    def __init__(self, api: Timed, schedule: FaultSchedule) -> None:
        self._api = api
        self.schedule = schedule
        self.creates: list[Create] = []
        self.calm = False
        self._rng = random.Random(f"{schedule.seed}:faults")
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = 0
        self._hidden_until: dict[str, float] = {}
        self._cached: dict[str, Response] = {}
        self._headers: Mapping[str, str] | None = None
        self._counts: list[int] = []
        if schedule.strangers:
            self._at(self._api.now + self._pause(), self._visit)

    # -- time

    @property
    def now(self) -> float:
        """Virtual time, in seconds since the epoch."""
        return self._api.now

    def advance(self, seconds: float) -> float:
        """Move virtual time forward, past everything that happens meanwhile."""
        until = self._api.now + seconds
        while self._due and self._due[0][0] <= until:
            at, _, event = heapq.heappop(self._due)
            self._api.advance(max(at - self._api.now, 0.0))
            event()
        return self._api.advance(max(until - self._api.now, 0.0))

    def _at(self, when: float, event: Callable[[], None]) -> None:
        self._ticket += 1
        heapq.heappush(self._due, (when, self._ticket, event))

    # -- requests

    def handle(self, request: Request) -> Response:
        """Answer one request, well or badly."""
        kind = _kind(request)
        fault = self._draw(kind)
        if fault is Fault.UNREACHABLE:
            raise Dropped("connection refused")
        whole = arrived(request)
        if kind == "create":
            return self._create(whole, fault)
        return self._answer(kind, whole, fault)

    def _draw(self, kind: str) -> Fault | None:
        faults = self.schedule.of(kind)
        if self.calm or not faults or self._rng.random() >= self.schedule.rate:
            return None
        return self._rng.choice(faults)

    def _create(self, request: Request, fault: Fault | None) -> Response:
        self._headers = request.headers
        ids = _custom_ids(request.body)
        self._counts = [*self._counts[-9:], len(ids)]
        place = len(self.creates)
        self.creates.append(Create(at=self.now, custom_ids=ids, fault=fault, batch_id=None))

        def take_effect() -> Response:
            response = self._api.handle(request)
            if response.status == 200:
                made = json.loads(read_all(response.body))["id"]
                self.creates[place] = attrs.evolve(self.creates[place], batch_id=made)
                self._hide(made)
            return response

        match fault:
            case Fault.LOST_REQUEST:
                raise Dropped("the request was lost")
            case Fault.LATE:
                self._at(
                    self.now + self._rng.uniform(0.0, self.schedule.lateness), lambda: _drop(take_effect())
                )
                raise Dropped("the answer was lost")
            case Fault.LOST_ANSWER:
                take_effect()
                raise Dropped("the answer was lost")
            case Fault.SERVER_ERROR_AFTER:
                take_effect()
                return self._error(500, "api_error", "Internal server error")
            case Fault.OVERLOADED_AFTER:
                take_effect()
                return self._error(529, "overloaded_error", "Overloaded", {"x-should-retry": "true"})
            case Fault.GATEWAY_PAGE:
                take_effect()
                return _page(504, b"<html><body>504 Gateway Time-out</body></html>")
            case Fault.ODD_SUCCESS:
                whole = take_effect()
                body = self._rng.choice([b"<html>ok</html>", b"{}", b'{"type":"message_batch","id":null}'])
                return attrs.evolve(whole, body=body)
            case Fault.CUT_ANSWER:
                whole = take_effect()
                body = read_all(whole.body)
                return attrs.evolve(whole, body=body[: self._rng.randrange(len(body))])
            case _:
                return self._refused(fault) or take_effect()

    def _refused(self, fault: Fault | None) -> Response | None:
        """Answer with an error that every kind of request may meet, and without its effect."""
        match fault:
            case Fault.SERVER_ERROR:
                return self._error(500, "api_error", "Internal server error")
            case Fault.OVERLOADED:
                return self._error(529, "overloaded_error", "Overloaded")
            case Fault.RATE_LIMITED:
                wait = str(self._rng.choice([0.5, 5, 30, 120]))
                return self._error(429, "rate_limit_error", "Too many requests", {"retry-after": wait})
            case Fault.QUEUE_FULL:
                return self._error(429, "rate_limit_error", "Too many requests in the batch queue")
            case Fault.SPEND_LIMIT:
                code = {"error_code": "enforced_spend_limit_reached"}
                return self._error(429, "rate_limit_error", "Spend limit reached", details=code)
            case Fault.SPEND_LIMIT_400:
                told = (
                    "You have reached your specified API usage limits. You will regain access on 2026-12-01."
                )
                return self._error(400, "invalid_request_error", told)
            case _:
                return None

    def _answer(self, kind: str, request: Request, fault: Fault | None) -> Response:
        """Answer a request that is not a create."""
        if fault is Fault.UNKNOWN:
            return self._error(404, "not_found_error", "Not found")
        if fault is Fault.LOST_REQUEST:
            raise Dropped("the request was lost")
        if (refused := self._refused(fault)) is not None:
            return refused
        response = self._api.handle(request)
        if fault is Fault.LOST_ANSWER:
            raise Dropped("the answer was lost")
        if response.status != 200:
            return response
        if kind == "list":
            return self._listed(request, response, fault)
        return response if kind != "results" or fault is None else self._spoiled(response, fault)

    # -- lists

    def _hide(self, batch_id: str) -> None:
        """Let the list know a new batch only after a while."""
        if not self.calm and self._rng.random() < self.schedule.rate:
            self._hidden_until[batch_id] = self.now + self._rng.uniform(0.0, self.schedule.lag)

    def _listed(self, request: Request, response: Response, fault: Fault | None) -> Response:
        lagging = [name for name, until in self._hidden_until.items() if self.now < until]
        if lagging:
            page = json.loads(read_all(response.body))
            # It flickers: sometimes the list knows already, and then again does not.
            hidden = {name for name in lagging if self._rng.random() < 0.8}
            page["data"] = [item for item in page["data"] if item["id"] not in hidden]
            response = attrs.evolve(response, body=json_bytes(page))
        asked = repr(sorted(request.query.items()))
        cached = self._cached.get(asked)
        self._cached[asked] = response
        headers = dict(response.headers)
        match fault:
            case Fault.STALE if cached is not None:
                return attrs.evolve(cached, headers={**cached.headers, "age": "57"})
            case Fault.ELSEWHERE:
                return attrs.evolve(
                    response, headers={**headers, "anthropic-workspace-id": "wrkspc_01another"}
                )
            case Fault.DATELESS:
                return attrs.evolve(response, headers={n: v for n, v in headers.items() if n != "date"})
            case _:
                return response

    # -- results

    def _spoiled(self, response: Response, fault: Fault) -> Response:
        """Damage a result file."""
        whole = read_all(response.body)
        lines = whole.splitlines(keepends=True)
        match fault:
            case Fault.CUT:
                return attrs.evolve(response, body=_broken(whole[: self._rng.randrange(len(whole) + 1)]))
            case Fault.CUT_SILENTLY:
                lines = lines[: self._rng.randrange(len(lines) + 1)]
            case Fault.DUPLICATED:
                lines.append(self._rng.choice(lines))
            case Fault.FOREIGN:
                foreign = b'{"custom_id":"someone-else-aaaaaaaa","result":{"type":"expired"}}\n'
                lines.insert(self._rng.randrange(1, len(lines) + 1), foreign)
            case _:
                return response
        return attrs.evolve(response, body=iter(lines))

    # -- strangers

    def _pause(self) -> float:
        return self._rng.expovariate(self.schedule.strangers / 3_600.0)

    def _visit(self) -> None:
        """Let somebody else create a batch, as soon as it is known who we are, and come again."""
        if self._headers is not None:
            like_ours = self._rng.random() < 0.5
            count = self._rng.choice(self._counts) if like_ours else self._rng.randint(1, 30)
            made = self._api.stranger(count, self._headers)
            if made is not None and self.schedule.deletions and self._rng.random() < self.schedule.deletions:
                self._at(self.now + self._rng.uniform(0.0, 1_800.0), lambda: self._cancel(made))
        if not self.calm:
            self._at(self.now + self._pause(), self._visit)

    def _cancel(self, stranger: str) -> None:
        """Let a stranger end a batch of its own, and delete it."""
        self._ask("POST", f"{BATCHES}/{stranger}/cancel")
        self._at(self.now + 1_800.0, lambda: self._ask("DELETE", f"{BATCHES}/{stranger}"))

    def _ask(self, method: str, path: str) -> None:
        assert self._headers is not None
        kept = {name: value for name, value in self._headers.items() if name != "content-length"}
        self._api.handle(Request(method=method, path=path, headers=kept))

    # -- answers

    def _error(
        self,
        status: int,
        kind: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        details: Mapping[str, str] | None = None,
    ) -> Response:
        body = error_body(kind, message, "req_injected")
        if details is not None:
            body["error"]["details"] = details
        return Response(
            status=status,
            headers={"content-type": "application/json", **(headers or {})},
            body=json_bytes(body),
        )


def _kind(request: Request) -> str:
    if request.path == BATCHES:
        return "create" if request.method == "POST" else "list"
    if request.path.startswith(f"{BATCHES}/"):
        if request.path.endswith("/results"):
            return "results"
        if request.path.endswith("/cancel"):
            return "cancel"
        return "retrieve"
    return "other"


def _custom_ids(body: object) -> tuple[str, ...]:
    try:
        requests = json.loads(body if isinstance(body, bytes) else b"")["requests"]
        return tuple(str(item["custom_id"]) for item in requests)
    except (ValueError, KeyError, TypeError):
        return ()


def _broken(part: bytes) -> Iterator[bytes]:
    yield part
    raise Dropped("the stream broke off")


def _page(status: int, body: bytes) -> Response:
    return Response(status=status, headers={"content-type": "text/html"}, body=body)


def _drop(_: Response) -> None:
    """Take no notice of an answer."""
