"""Whole runs on a PostgreSQL store, over HTTP, with the real SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from pg import empty, url
from rig import answers
from shop import BROKEN, GREEN, REFUSED, tiny_spec, words

import batchkit
from batchkit.equations import count
from batchkit.states import RunState
from batchkit.testing import Answer, Latency, SimulatedAPI, serve, served_client
from batchkit.workflow import Workflow


@pytest.fixture
def store(postgres_store: str) -> str:
    """Give the URL of an empty store."""
    empty(postgres_store)
    return url(postgres_store)


def test_a_run_over_http_ends_in_balance(store: str) -> None:
    """A run with a tail, given a URL alone, ends in balance; other processes look at it and ask by the same URL."""
    sim = SimulatedAPI(
        answers({"w0003": REFUSED, "w0004": BROKEN, "w0005": Answer(text=GREEN)}),
        latency=Latency(min=60.0, max=120.0),
    )
    with serve(sim) as server, served_client(server.url) as client:
        flow = Workflow(tiny_spec(), store=store, client=client, max_batch_rows=40)
        run = flow.start("nightly", words(120), unlocked=True)
        progress = run.wait(progress="none")
        assert progress.done
        receipt = run.reconcile()
        assert receipt.balanced
        record = flow.store.runs(name="nightly")[0]
        assert record.state is RunState.CLOSED
        assert count(flow.store, record, tally=flow.store.tally(record.id)).hold
        assert (
            sum(r.usage is not None for r in flow.store.results(record.id, limit=10_000)) == sim.bill().lines
        )
        flow.store.close()
    assert batchkit.attach(store, "nightly").progress.done
    told = subprocess.run(
        [sys.executable, "-m", "batchkit", "status", store, "nightly", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)
