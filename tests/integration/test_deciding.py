"""Decisions about held batches, through the run and on the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

from batchkit import Contract, DoubtHeld, Progress, Prompt, Run, Spec, Tier, UsageError, Workflow
from batchkit.cli import main
from batchkit.testing import Answer, Dropped, Latency, Request, Response, SimulatedAPI, simulated_client


class Item(BaseModel):
    kind: Literal["cable", "other"]


class LosesTheFirstCreate:
    """A simulator whose first create takes no effect and is never answered."""

    def __init__(self, api: SimulatedAPI) -> None:
        self.api = api
        self.lost = 0

    @property
    def now(self) -> float:
        return self.api.now

    def advance(self, seconds: float) -> float:
        return self.api.advance(seconds)

    def handle(self, request: Request) -> Response:
        if request.method == "POST" and request.path.endswith("/batches") and not self.lost:
            self.lost += 1
            b"".join([request.body] if isinstance(request.body, bytes) else request.body)
            raise Dropped("the connection broke")
        return self.api.handle(request)


def held_run(path: Path) -> tuple[Workflow[Item], Run[Item], Progress]:
    """Give a run whose only batch is held: its create was lost, and the grace is infinite."""
    api = SimulatedAPI(lambda params, rng: Answer(text='{"kind": "cable"}'), latency=Latency(60, 120))
    client = simulated_client(api=LosesTheFirstCreate(api))
    spec = Spec(Contract(Item), Prompt("{title}"), key="sku", tiers=[Tier("claude-haiku-4-5", max_tokens=50)])
    flow = Workflow(spec, store=path, client=client, doubt_grace=math.inf)
    run = flow.start("r", [{"sku": f"{n:03}", "title": "usb cable"} for n in range(5)], unlocked=True)
    return flow, run, run.wait(progress="none")


def test_a_held_doubt_names_the_command_and_its_decision_lets_the_run_end(tmp_path: Path) -> None:
    """A create that nobody answered is held; declared absent its rows go out again, and each is paid once."""
    path = tmp_path / "store.db"
    _, run, progress = held_run(path)
    (need,) = progress.needs
    assert progress.state == "held"
    assert progress.exit_code == 3
    assert need.fix == (f"python -m batchkit decide {path} r 1 look-again|adopt|declare-absent --by YOU")
    after = run.decide(1, "declare-absent", by="reviewer-1", force=True)
    assert after.needs == ()
    done = run.wait(progress="none")
    assert done.done
    assert run.reconcile().balanced
    assert len(run.rows(outcome="succeeded")) == 5


def test_the_command_line_decides_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``decide`` works on the store alone, without a spec, a key or a client."""
    path = tmp_path / "store.db"
    flow, run, _ = held_run(path)
    assert main(["decide", str(path), "r", "1", "declare-absent", "--by", "me", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["needs"] == []
    assert run.wait(progress="none").done
    flow.store.close()


def test_a_decision_that_is_not_possible_changes_nothing(tmp_path: Path) -> None:
    """A wrong batch, decision, id or moment is refused by name, and the batch stays held."""
    path = tmp_path / "store.db"
    _, view, _ = held_run(path)
    with pytest.raises(UsageError, match="no batch 7; held are: 1"):
        view.decide(7, "look-again", by="me")
    with pytest.raises(UsageError, match="is no decision"):
        view.decide(1, "resend", by="me")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs a name"):
        view.decide(1, "look-again", by="")
    with pytest.raises(UsageError, match="takes the id of a remote batch"):
        view.decide(1, "adopt", by="me")
    with pytest.raises(UsageError, match="takes the id of a remote batch"):
        view.decide(1, "look-again", by="me", remote="msgbatch_1")
    with pytest.raises(UsageError):
        view.decide(1, "accept-missing", by="me")
    with pytest.raises(UsageError):
        view.decide(1, "give-up", by="me")
    with pytest.raises(DoubtHeld, match="could still arrive"):
        view.decide(1, "declare-absent", by="me")
    assert view.progress.state == "held"


def test_looking_again_and_adopting_put_the_batch_back_in_doubt(tmp_path: Path) -> None:
    """``look-again`` and ``adopt`` make the batch doubtful again: nothing is sent before it is proved."""
    path = tmp_path / "store.db"
    _, run, _ = held_run(path)
    assert run.decide(1, "look-again", by="me").needs == ()
    assert run.wait(progress="none").state == "held"
    assert run.decide(1, "adopt", by="me", remote="msgbatch_of_somebody").needs == ()
    assert run.wait(progress="none").state == "held"
    assert len(run.rows(outcome="open")) == 5
