"""The simulated Message Batches API: one implementation behind both doors."""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import attrs

from batchkit.testing.admission import check_json, check_length, check_request, forward, read_params
from batchkit.testing.answers import Model
from batchkit.testing.batch import Batch, row_seed
from batchkit.testing.bill import Bill
from batchkit.testing.body import BodyTooLarge, decode, read_requests
from batchkit.testing.http import APIError, Request, Response, error_body, json_bytes, read_all
from batchkit.testing.lines import Lines, LinesWriter
from batchkit.testing.message import count_input_tokens, message
from batchkit.testing.models import MODELS
from batchkit.testing.paging import page
from batchkit.testing.settings import Settings
from batchkit.testing.world import World, opaque_id

__all__ = ["Handler", "SimulatedAPI"]

_EDGE_413 = (
    b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n"
    b"<center><h1>413 Request Entity Too Large</h1></center>\r\n<hr><center>edge</center>\r\n</body>\r\n</html>\r\n"
)


class Handler(Protocol):
    """Whatever answers requests: a `SimulatedAPI`, or a wrapper that does something to one."""

    def handle(self, request: Request) -> Response:
        """Answer one request; may raise `Dropped` when the answer never arrives."""
        ...


@attrs.frozen
class _Call:
    """A request that was let in."""

    request: Request
    workspace: str
    version: str
    id: str


class SimulatedAPI:
    """A provider in memory, with a virtual clock that moves only when told.

    Every request goes through `handle`, so a wrapper with the same method can lose
    answers, refuse, or lag, and both doors take it. Safe for threads.

    Args:
        model: Answers the requests.
        state: A journal's file. Every change is on disk in it before it is answered,
            and a simulator opened on it later continues where that one stopped.
        **settings: The fields of `Settings`, such as ``seed``, ``latency`` or ``queue_limit``.

    Raises:
        TypeError: A setting that does not exist.
        ValueError: The state was written with another seed.
    """

    def __init__(self, model: Model, *, state: Path | str | None = None, **settings: Any) -> None:
        self.settings: Settings = Settings(**settings)
        self._world = World(model, self.settings, None if state is None else Path(state))
        self._lock = threading.RLock()
        self._calls = 0

    # -- the simulator's own side

    @property
    def now(self) -> float:
        """Virtual time, in seconds since the epoch."""
        return self._world.now

    def advance(self, seconds: float) -> float:
        """Move virtual time forward.

        Args:
            seconds: How far; zero or more.

        Returns:
            The new time, in seconds since the epoch.

        Raises:
            ValueError: ``seconds`` is negative or not a finite number.
        """
        with self._lock:
            self._world.advance(forward(seconds))
            return self._world.now

    def stranger(self, size: int, headers: Mapping[str, str]) -> str | None:
        """Let somebody else in the same workspace create a batch. Only one of its requests is kept, however large it is.

        Args:
            size: How many requests it counts.
            headers: Those of a request of the workspace.

        Returns:
            Its id; None where the queue is full or the key is not valid.
        """
        workspace = self._workspace(Request(method="POST", path="", headers=headers))
        if workspace is None:
            return None
        text = json_bytes({"custom_id": f"stranger-{size}", "params": {"model": "somebody-elses"}}).decode()
        with self._lock, contextlib.suppress(APIError):
            return self._world.create(workspace, "2023-06-01", Lines.of([text]), size).id
        return None

    def bill(self) -> Bill:
        """Return what was charged until now."""
        with self._lock:
            return self._world.bill()

    def state(self) -> dict[str, Any]:
        """Return virtual time, this process, every batch with its status and counts, and the requests that wait."""
        with self._lock:
            world = self._world
            batches = [
                {
                    **self._show(batch, ""),
                    "workspace": batch.workspace,
                    "deleted": batch.deleted,
                    "results_url": None,
                }
                for batch in world.batches()
            ]
            return {"now": world.now, "pid": os.getpid(), "waiting": world.waiting(), "batches": batches}

    def close(self) -> None:
        """Close the state file."""
        self._world.close()

    # -- the API's side

    def handle(self, request: Request) -> Response:
        """Answer one request; the single entry, whatever the door.

        Raises:
            Exception: Whatever the request's body raises while it is read; nothing was done then.
        """
        if request.path.startswith("/_sim/"):
            return self._control(request)
        with self._lock:
            self._calls += 1
            call_id = opaque_id("req", self.settings.seed, self._world.starts, self._calls)
        workspace = self._workspace(request)
        try:
            if workspace is None:
                raise APIError("authentication_error", "x-api-key header is required or the key is not valid")
            if request.headers.get("anthropic-workspace-id", workspace) != workspace:
                raise APIError(
                    "permission_error", "anthropic-workspace-id: the key belongs to another workspace"
                )
            response = self._answer(_Call(request, workspace, self._version(request), call_id))
        except BodyTooLarge:
            return Response(
                status=413, headers={"content-type": "text/html", "date": self._date()}, body=_EDGE_413
            )
        except APIError as error:
            response = _json(error_body(error.kind, error.message, call_id), status=error.status)
        headers = {**response.headers, "request-id": call_id, "date": self._date()}
        if workspace is not None:
            headers["anthropic-organization-id"] = self.settings.organization
            headers["anthropic-workspace-id"] = workspace
        return attrs.evolve(response, headers=headers)

    def _answer(self, call: _Call) -> Response:
        for method, path, endpoint in _ROUTES:
            match = path.fullmatch(call.request.path)
            if match is not None and method == call.request.method:
                return endpoint(self, call, *match.groups())
        raise APIError("not_found_error", f"Not found: {call.request.method} {call.request.path}")

    def _workspace(self, request: Request) -> str | None:
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix(
            "Bearer "
        )
        if not key.strip():
            return None
        return self.settings.workspaces.get(key) if self.settings.workspaces else self.settings.workspace

    def _version(self, request: Request) -> str:
        version = request.headers.get("anthropic-version")
        if not version:
            raise APIError("invalid_request_error", "anthropic-version: header is required")
        return version

    def _date(self) -> str:
        return formatdate(self._world.now, usegmt=True)

    def _show(self, batch: Batch, base_url: str) -> dict[str, Any]:
        if self._world.now >= batch.ended_at:
            self._world.settled(batch)
        return batch.to_dict(self._world.now, base_url)

    # -- batches

    def _create(self, call: _Call) -> Response:
        check_json(call.request)
        check_length(call.request, self.settings.max_bytes)
        requests, size = self._read(call)
        with self._lock:
            batch = self._world.create(call.workspace, call.version, requests, size)
            return _json(self._show(batch, call.request.base_url))

    def _read(self, call: _Call) -> tuple[Lines, int]:
        """Read and check a batch's requests; nothing is kept of a body that is refused or cut short."""
        seen: set[str] = set()
        lines = LinesWriter()
        size = 0
        for text, value in read_requests(call.request.body, self.settings.max_bytes):
            custom_id = check_request(size, value)
            if custom_id in seen:
                raise APIError(
                    "invalid_request_error",
                    f"requests.{size}.custom_id: '{custom_id}' is not unique in this batch",
                )
            seen.add(custom_id)
            lines.add(text)
            size += 1
            if size > self.settings.max_requests:
                raise APIError(
                    "invalid_request_error",
                    f"requests: List should have at most {self.settings.max_requests} items",
                )
        if not size:
            raise APIError(
                "invalid_request_error", "requests: List should have at least 1 item after validation, not 0"
            )
        return lines.close(), size

    def _retrieve(self, call: _Call, batch_id: str) -> Response:
        with self._lock:
            return _json(self._show(self._world.find(call.workspace, batch_id), call.request.base_url))

    def _list(self, call: _Call) -> Response:
        with self._lock:
            batches = self._world.listed(call.workspace)
            chosen, more = page(batches, [batch.id for batch in batches], call.request.query)
            return _page([self._show(batch, call.request.base_url) for batch in chosen], more)

    def _cancel(self, call: _Call, batch_id: str) -> Response:
        with self._lock:
            batch = self._world.find(call.workspace, batch_id)
            if batch.status(self.now) == "ended":
                raise APIError(
                    "invalid_request_error", f"Message batch {batch_id} has ended and cannot be canceled"
                )
            if batch.cancel_at is None:
                self._world.cancel(batch)
            return _json(self._show(batch, call.request.base_url))

    def _delete(self, call: _Call, batch_id: str) -> Response:
        with self._lock:
            batch = self._world.find(call.workspace, batch_id)
            if batch.status(self.now) != "ended":
                raise APIError(
                    "invalid_request_error",
                    f"Message batch {batch_id} is still processing and cannot be deleted; cancel it first",
                )
            self._world.delete(batch)
            return _json({"id": batch_id, "type": "message_batch_deleted"})

    def _results(self, call: _Call, batch_id: str) -> Response:
        with self._lock:
            batch = self._world.find(call.workspace, batch_id)
            if batch.status(self.now) != "ended":
                raise APIError(
                    "not_found_error", f"Message batch {batch_id} has no available results; it has not ended"
                )
            if self.now >= batch.archived_at:
                raise APIError(
                    "not_found_error", f"The results of message batch {batch_id} are no longer available"
                )
            lines = self._world.settled(batch).results
        return Response(headers={"content-type": "application/x-jsonl"}, body=lines.blocks())

    # -- messages and models

    def _message(self, call: _Call) -> Response:
        text, params = read_params(call.request, call.version)
        if params.get("stream"):
            raise APIError("invalid_request_error", "stream: the simulator answers in one piece only")
        with self._lock:
            digest = row_seed(self.settings.seed, text).hex()
            # Asked again, a model answers anew: a retry must be able to fare better.
            turn = row_seed(self.settings.seed, f"{digest}:{self._world.times_asked(digest)}")
            rng = random.Random(int.from_bytes(turn, "big"))
            answer = self._world.model(params, rng)
            if answer.kind != "message":
                self._world.charge(digest, params["model"], None)
                kind = answer.error_type if answer.kind == "errored" else "overloaded_error"
                raise APIError(kind, answer.error_message or kind)
            value = message(params, answer, f"msg_01{turn.hex()[:22]}", rng, "standard")
            self._world.charge(digest, value["model"], value["usage"])
        return _json(value)

    def _count_tokens(self, call: _Call) -> Response:
        _, params = read_params(call.request, call.version, max_tokens=1)
        return _json({"input_tokens": count_input_tokens(params)})

    def _models(self, call: _Call) -> Response:
        chosen, more = page(list(MODELS.values()), list(MODELS), call.request.query)
        return _page([card.to_dict() for card in chosen], more)

    def _model(self, call: _Call, model_id: str) -> Response:
        if model_id not in MODELS:
            raise APIError("not_found_error", f"model: {model_id}")
        return _json(MODELS[model_id].to_dict())

    # -- the simulator's own endpoints

    def _control(self, request: Request) -> Response:
        match request.method, request.path:
            case "GET", "/_sim/state":
                return _json(self.state())
            case "GET", "/_sim/bill":
                bill = self.bill()
                if request.query.get("detail") == "1":
                    return Response(
                        headers={"content-type": "application/x-jsonl"}, body=_encoded(bill.texts())
                    )
                return _json(bill.to_dict())
            case "POST", "/_sim/advance":
                try:
                    seconds = forward(decode(read_all(request.body).decode())["seconds"])
                except (APIError, KeyError, TypeError, ValueError) as error:
                    return _json({"error": f'expected {{"seconds": n}}: {error!r}'}, status=400)
                return _json({"now": self.advance(seconds)})
            case _:
                return _json({"error": f"no such control: {request.method} {request.path}"}, status=404)


_Endpoint: TypeAlias = Callable[..., Response]
_BATCH = r"/v1/messages/batches/([^/]+)"
_ROUTES: tuple[tuple[str, re.Pattern[str], _Endpoint], ...] = tuple(
    (method, re.compile(path), endpoint)
    for method, path, endpoint in (
        ("POST", "/v1/messages/batches", SimulatedAPI._create),
        ("GET", "/v1/messages/batches", SimulatedAPI._list),
        ("GET", _BATCH, SimulatedAPI._retrieve),
        ("DELETE", _BATCH, SimulatedAPI._delete),
        ("POST", f"{_BATCH}/cancel", SimulatedAPI._cancel),
        ("GET", f"{_BATCH}/results", SimulatedAPI._results),
        ("POST", "/v1/messages", SimulatedAPI._message),
        ("POST", "/v1/messages/count_tokens", SimulatedAPI._count_tokens),
        ("GET", "/v1/models", SimulatedAPI._models),
        ("GET", r"/v1/models/([^/]+)", SimulatedAPI._model),
    )
)


def _json(value: Mapping[str, Any], *, status: int = 200) -> Response:
    return Response(status=status, headers={"content-type": "application/json"}, body=json_bytes(value))


def _page(data: list[dict[str, Any]], more: bool) -> Response:
    ids = [item["id"] for item in data]
    return _json(
        {
            "data": data,
            "has_more": more,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
    )


def _encoded(texts: Iterator[str]) -> Iterator[bytes]:
    for text in texts:
        yield f"{text}\n".encode()
