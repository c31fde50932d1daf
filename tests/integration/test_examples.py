"""The examples do what they say, as programs that somebody copies."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from batchkit import Event, Gate, Outcome, Reason, Workflow, attach
from batchkit.pilot import Pilot
from batchkit.testing import simulated_client
from batchkit.testing.catalog import generate, truth

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the examples import each other, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == EXAMPLES:
            del sys.modules[name]


def example(name: str) -> ModuleType:
    import importlib

    return importlib.import_module(name)


def shop(path: Path) -> Path:
    """Make a catalog of the generated products that the examples' categories are for."""
    known = {"Audio", "Cables", "Chargers", "Lighting", "Monitors", "Networking"}
    rows = [row for row in generate(400, 5) if row["sku"] and truth(row) in known]
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "CREATE TABLE products (sku TEXT PRIMARY KEY, title TEXT, description TEXT, brand TEXT,"
            " category TEXT, features TEXT, summary TEXT)"
        )
        db.executemany(
            "INSERT OR IGNORE INTO products (sku, title, description, brand) VALUES (?, ?, ?, 'Ilyra')",
            [(row["sku"], row["title"], row["description"]) for row in rows],
        )
        db.commit()
    return path


def accept(flow: Workflow[Any], rows: Any) -> None:
    """Have somebody accept the spec on a few rows."""
    pilot: Pilot[Any] = flow.pilot(rows, size=8)
    pilot.run()
    for row in pilot.review():
        pilot.review().judge(row.key, "accept" if row.output is not None else "reject", by="reviewer-1")
    pilot.lock(by="reviewer-1", gate=Gate(min_pass=0.1))


@pytest.mark.usefixtures("examples")
def test_the_script_stops_at_its_timeout_goes_on_and_writes_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ETL script ends at its timeout with 75, the next one promotes with 0, and a night without news writes nothing."""
    etl, spec = example("etl"), example("common").spec
    catalog, store, client = shop(tmp_path / "catalog.db"), tmp_path / "enrich.db", simulated_client(seed=3)
    accept(Workflow(spec, store=store, client=client), from_catalog(catalog))

    assert etl.nightly(catalog, store, client=client, timeout=30) == 75
    assert attach(store, "nightly").progress.tally.open > 0
    assert etl.nightly(catalog, store, client=client, timeout=3 * 86_400) == 0
    written = capsys.readouterr().out
    assert int(re.findall(r"written (\d+)", written)[-1]) > 30
    staged = attach(store, "nightly").progress.tally.outcomes[Outcome.SUCCEEDED]

    assert etl.nightly(catalog, store, client=client, timeout=3 * 86_400) == 0
    assert "written 0" in capsys.readouterr().out
    again = attach(store, "nightly")
    assert (again.name, again.progress.tally.outcomes[Outcome.UNCHANGED]) == ("nightly#2", staged)


def from_catalog(catalog: Path) -> list[Mapping[str, Any]]:
    with closing(sqlite3.connect(catalog)) as db:
        db.row_factory = sqlite3.Row
        return [
            dict(row)
            for row in db.execute("SELECT sku, title, description, brand FROM products ORDER BY sku")
        ]


def test_the_script_refuses_a_spec_that_nobody_accepted(tmp_path: Path) -> None:
    """Run as cron runs it, the ETL script says that the spec is not locked and spends nothing."""
    environment = {"CATALOG": str(shop(tmp_path / "catalog.db")), "STORE": str(tmp_path / "enrich.db")}
    told = subprocess.run(
        [sys.executable, str(EXAMPLES / "etl.py")],
        env={**environment, "SIMULATE": "1", "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "NotLocked" in told.stderr


def call(app: Any, method: str, path: str) -> tuple[int, Any]:
    """Send one request to an ASGI application."""
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "method": method, "path": path}, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.mark.usefixtures("examples")
def test_the_service_starts_a_run_and_tells_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service refuses an unlocked spec, starts a run once it is locked, tells its progress, and knows no other."""
    catalog, store = shop(tmp_path / "catalog.db"), tmp_path / "enrich.db"
    monkeypatch.setenv("CATALOG", str(catalog))
    monkeypatch.setenv("STORE", str(store))
    service, spec = example("service"), example("common").spec

    status, told = call(service.app, "POST", "/runs/spring")
    assert (status, told["error"]) == (409, "NotLocked")
    client = simulated_client(seed=4)
    accept(Workflow(spec, store=store, client=client), from_catalog(catalog))

    status, started = call(service.app, "POST", "/runs/spring")
    assert (status, started["run"], started["outcomes"]["open"] > 0) == (202, "spring", True)
    assert call(service.app, "POST", "/runs/spring")[0] == 202
    Workflow(spec, store=store, client=client).resume("spring").wait(progress="none")
    status, done = call(service.app, "GET", "/runs/spring")
    assert (status, done["done"], done["balanced"]) == (200, True, True)
    status, listed = call(service.app, "GET", "/runs")
    assert (status, listed[-1]) == (200, {"run": "spring", "state": "closed"})
    assert call(service.app, "GET", "/runs/nope")[0] == 404
    assert call(service.app, "DELETE", "/runs/spring")[0] == 404


@pytest.mark.usefixtures("examples")
def test_the_service_tells_what_needs_somebody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only events that must wake somebody up are passed on."""
    monkeypatch.setenv("STORE", str(tmp_path / "enrich.db"))
    service = example("service")
    paused = Event(id="1", kind="run.paused", run="spring", at=0.0, severity="page", data={"who": "money"})
    service.alert(paused)
    service.alert(attrs.evolve(paused, severity="info"))
    assert capsys.readouterr().out == "run.paused spring {'who': 'money'}\n"


@pytest.mark.usefixtures("examples")
def test_the_six_parts_work_alone() -> None:
    """Each of the six classes does its share on plain values, without a workflow."""
    parts = example("parts")
    assert parts.build() == "sku_0042-abcd2345"
    verdict = parts.judge()
    assert (verdict.reason, verdict.output) == (Reason.OUTPUT_SCHEMA, None)
    assert '"loc":"category"' in verdict.detail
    assert parts.decide(Reason.OUTPUT_SCHEMA) == ["retry", "escalate", "retry", "quarantine"]
    assert parts.decide(Reason.OUTPUT_REFUSED) == ["to the human queue"]
    counted = parts.send_and_collect()
    assert counted.balanced
    assert counted.equations.rows.source == 3


def test_ones_own_catalog_in_25_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of the README runs as it stands there, balances, and writes into the catalog."""
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "own_catalog.py"))
    printed = capsys.readouterr().out
    assert "= 3 of 3" in printed
    # The simulated model fails now and then, as real ones do; then nothing is staged for this item.
    written = {"written 1": "Cables", "written 0": ""}
    [category] = [value for said, value in written.items() if said in printed]
    with closing(sqlite3.connect(tmp_path / "shop.db")) as db:
        assert db.execute("SELECT category FROM item WHERE sku = '001'").fetchone() == (category,)
    readme = EXAMPLES.parent / "README.md"
    assert (EXAMPLES / "own_catalog.py").read_text() in readme.read_text(encoding="utf-8")


@pytest.mark.usefixtures("examples")
def test_of_two_workers_one_is_killed_and_the_other_finishes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The worker that is left moves every run to its end, and nothing is paid twice."""
    store, worker = str(tmp_path / "workers.db"), example("worker")
    assert worker.main(store) == 0
    said = capfd.readouterr().out
    assert said.endswith("requests paid twice: 0\nbalanced, and nothing was paid twice\n")
    _, killed, after = said.partition("worker 1 was killed")
    assert killed
    assert "worker 1 moved" not in after
    # On a slow machine one of them may have finished a run before the kill: only who is left is certain.
    assert "worker 2 moved" in said
    for name in worker.RUNS:
        assert attach(store, name).progress.done
