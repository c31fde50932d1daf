"""A rule that never ends, in real processes that are killed over it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from sweep import Scene

from batchkit.contract import Contract
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.rules import rule
from batchkit.spec import Spec
from batchkit.states import RowState
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing.soak.light import LightClient
from batchkit.testing.soak.scene import Label
from batchkit.tier import Tier
from batchkit.workflow import Workflow

WORDS = ["fine", "fine", "endless", "fine", "fine"]
MOST = 8
"""Deaths that are waited for before the test gives up."""


def spec_of(told: int) -> Spec[Label]:
    """Give a spec whose rule never ends for one word, and says when it is there."""

    @rule(version=1)
    def patient(output: Label, row: Any) -> bool:
        if row["word"] == "endless":
            os.write(told, b"h")
            time.sleep(600)
        return True

    return Spec(
        Contract(Label, rules=[patient]),
        Prompt("Word: {word}"),
        key="sku",
        prefix="t_",
        tiers=[Tier("claude-haiku-4-5", max_tokens=300)],
    )


def move(folder: Path, told: int) -> None:
    """Move the run to its end, in a child that never returns."""
    try:
        scene = Scene(folder)
        flow = Workflow(spec_of(told), store=scene.path, client=LightClient(scene.sim), clock=scene.clock)  # type: ignore[arg-type]
        os._exit(0 if flow.resume("run").wait(progress="none").done else 1)
    finally:
        os._exit(3)


def test_the_row_over_which_processes_die_is_set_aside(tmp_path: Path) -> None:
    """Killed again and again over the same row, the run ends without it: its answer is kept, the others are accepted."""
    scene = Scene(tmp_path)
    rows = [{"sku": f"S{number}", "word": word} for number, word in enumerate(WORDS)]
    reading, writing = os.pipe()
    start = Workflow(spec_of(writing), store=scene.path, clock=scene.clock)
    start.start("run", rows, unlocked=True)
    start.store.close()
    scene.sim.close()
    deaths, code = 0, None
    while code is None and deaths < MOST:
        child = os.fork()
        if not child:
            move(tmp_path, writing)
        while code is None:
            os.set_blocking(reading, False)
            try:
                os.read(reading, 1)
            except BlockingIOError:
                ended, status = os.waitpid(child, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if ended else None
                time.sleep(0.01)
                continue
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            deaths += 1
            break
    assert (deaths, code) == (4, 0)
    scene = Scene(tmp_path)
    store = SQLiteStore(scene.path, clock=scene.clock)
    run = store.runs(name="run")[0]
    assert store.tally(run.id).counts == {
        (RowState.SUCCEEDED, None, 0): 4,
        (RowState.QUARANTINED, Reason.OUTPUT_RULE, 0): 1,
    }
    assert scene.sim.bill().lines == len(store.results(run.id, limit=100)) == len(WORDS)
    store.close()
    scene.sim.close()
    os.close(reading)
    os.close(writing)
