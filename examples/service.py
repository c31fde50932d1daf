"""A service around batchkit, as a plain ASGI application: any server runs it, any framework can mount it.

    POST /runs/{name}    start a run over the catalog (never a path or a query from the request)
    GET  /runs/{name}    where it stands
    GET  /runs           every run

A worker beside it moves the runs: ``python -m batchkit work --app service:flow``.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from common import Attributes, spec

from batchkit import Budget, Event, UsageError, Workflow, attach, runs, source

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

STORE = os.environ.get("STORE", "enrich.db")
CATALOG = Path(os.environ.get("CATALOG", "catalog.db"))
PRODUCTS = "SELECT sku, title, description, brand FROM products ORDER BY sku"


def alert(event: Event) -> None:
    """Tell somebody: at least once, after the commit; the id tells repeats apart."""
    if event.severity == "page":
        print(event.kind, event.run, event.data)


def flow() -> Workflow[Attributes]:
    """Give the workflow that starts runs here and moves them in the worker."""
    return Workflow(spec, store=STORE, budget=Budget(usd=400), on_event=alert)


def answer(method: str, path: str) -> tuple[int, object]:
    """Do what was asked; blocking, so it runs in a thread."""
    try:
        match method, path.strip("/").split("/"):
            case "POST", ["runs", name]:
                started = flow().start(name, source.query(CATALOG, PRODUCTS), max_rows=1_000_000)
                return 202, started.progress.to_dict()
            case "GET", ["runs", name]:
                return 200, attach(STORE, name).progress.to_dict()
            case "GET", ["runs"]:
                return 200, [{"run": run.name, "state": run.state.value} for run in runs(STORE)]
            case _:
                return 404, {"error": "NotFound", "message": f"{method} {path}"}
    except UsageError as error:
        return 409 if method == "POST" else 404, {"error": type(error).__name__, "message": str(error)}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    if scope["type"] != "http":
        return
    status, value = await asyncio.to_thread(answer, scope["method"], scope["path"])
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})
