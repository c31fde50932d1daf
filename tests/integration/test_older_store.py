"""What an earlier version left goes on with this one.

`tests/data` has what a store held that version 0.1.0 wrote on its own simulator, a run that ended, and a run whose one
batch is at the provider; and the body of that batch's create. Whoever changes how ids are made, or what a spec's document
says, learns here what becomes of runs that are under way.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from batchkit import Contract, Prompt, Spec, SQLiteStore, Tier, Workflow
from batchkit.storage import schema
from batchkit.testing import SimulatedAPI, fixed_model, simulated_client

DATA = Path(__file__).parents[1] / "data"


class Answer(BaseModel):
    category: Literal["Audio", "Cables"]


SPEC = Spec(
    Contract(Answer),
    Prompt("Title: {title}", system="Sort the item."),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=100)],
)


def test_a_store_of_0_1_0_goes_on(tmp_path: Path) -> None:
    """A batch that 0.1.0 sent is collected, each row by its id, nothing is sent again, and both runs are balanced."""
    api = SimulatedAPI(fixed_model('{"category": "Audio"}'), seed=2)
    client = simulated_client(api=api)
    rows = (DATA / "store-0.1.0.sql").read_text(encoding="utf-8")
    body = json.loads((DATA / "requests-0.1.0.json").read_text(encoding="utf-8"))
    api.advance(2 * 86_400)  # later than anything that 0.1.0 saw
    batch = client.messages.batches.create(requests=body["requests"])
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as old:
        for statement in schema.MIGRATIONS[0]:
            old.execute(statement)
        old.executescript(rows)
        old.execute("UPDATE batch SET remote_id = ? WHERE state = 'live'", (batch.id,))
        old.commit()
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
    with closing(SQLiteStore(path)) as store:
        store.confirm()  # it was moved here
    flow = Workflow(SPEC, store=str(path), client=client)
    run = flow.resume("sent")
    assert run.wait(progress="none").done
    assert {row.key for row in run.rows(outcome="succeeded")} == {"001", "x y/ü", "a" * 80, "B-17", "é", "0"}
    assert run.reconcile().balanced
    assert flow.resume("ended").reconcile().balanced
    assert set(api.bill().times_paid().values()) == {1}
    assert len(api.bill().times_paid()) == 6
    with closing(sqlite3.connect(path)) as now:
        assert now.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
