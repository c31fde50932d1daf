"""A tier whose model the API does not know: said before anything is sent, and no obstacle where nobody can say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import VALID
from shop import Shop, batches, tiny_spec, words

from batchkit.api import Gateway
from batchkit.errors import NeedsPerson
from batchkit.submitter import ChunkedSubmitter
from batchkit.testing import Answer, Dropped, Handler, Request, Response, simulated_client
from batchkit.testing.models import MODELS
from batchkit.tier import Tier

MISSPELT = [Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonet-4-6", max_tokens=600)]


def red(params: Any, rng: Any) -> Answer:
    return Answer(text=VALID)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path, model=red)
    made.spec = tiny_spec(tiers=MISSPELT)
    yield made
    made.close()


def asked(shop: Shop) -> list[str]:
    return [path for method, path in shop.faults.seen if path.startswith("/v1/models")]


def test_a_misspelt_model_pauses_before_anything_is_sent(shop: Shop) -> None:
    """The need names the tier and the nearest known model, and no batch was even intended."""
    run = shop.start()
    progress = run.wait(progress="none")
    (need,) = progress.needs
    assert (progress.state, progress.exit_code, need.code) == ("paused", 3, "api.model")
    assert "no model 'claude-sonet-4-6', which tier 1 names" in need.why
    assert "nearest it knows is 'claude-sonnet-4-6'" in need.why
    assert f"cancel {shop.path} run" in need.fix
    assert (shop.faults.posts, batches(run)) == (0, [])


def test_whoever_lets_it_go_on_knows_better(shop: Shop) -> None:
    """After a resume the run is sent as it stands, also by a process that asks anew."""
    run = shop.start()
    run.wait(progress="none")
    run.unpause()
    assert shop.flow().resume("run").wait(progress="none").done
    assert shop.paid == 10


def test_known_models_are_asked_after_once(shop: Shop) -> None:
    """A process asks once for every tier, however many batches and runs it sends."""
    shop.spec = tiny_spec()
    flow = shop.flow(max_batch_rows=4)
    for name in ("one", "two"):
        assert shop.start(name, flow=flow).wait(progress="none").done
    assert asked(shop) == ["/v1/models/claude-haiku-4-5", "/v1/models/claude-sonnet-4-6"]


@pytest.mark.parametrize(
    "trouble", ["404", "403", "500", "no connection", "an empty list", "html", "no such route"]
)
def test_an_endpoint_that_shows_no_models_is_no_obstacle(shop: Shop, trouble: str) -> None:
    """Only a clear no of the API holds a run back: a gateway without models, or a dead one, does not."""

    def rule(request: Request, api: Handler) -> Response | None:
        if not request.path.startswith("/v1/models"):
            return None
        if trouble == "no connection":
            raise Dropped("no route")
        if trouble == "html":
            return Response(status=200, body=b"<html>")
        if trouble == "an empty list" and request.path == "/v1/models":
            return Response(headers={"content-type": "application/json"}, body=b'{"data": []}')
        if trouble == "no such route":
            listed = request.path == "/v1/models"
            body = b'{"data": [{"id": "a-route-of-its-own"}]}' if listed else b'{"detail": "Not Found"}'
            return Response(
                status=200 if listed else 404, headers={"content-type": "application/json"}, body=body
            )
        body = json.dumps({"type": "error", "error": {"type": "not_found_error", "message": "?"}}).encode()
        status = 404 if trouble == "an empty list" else int(trouble)
        return Response(status=status, headers={"content-type": "application/json"}, body=body)

    shop.faults.rules.append(rule)
    run = shop.start()
    assert run.wait(progress="none").done
    assert shop.paid == 10


def test_the_submitter_alone_says_so_too(shop: Shop) -> None:
    """Used without a workflow there is no run to pause, and the need is raised."""
    flow = shop.flow()
    submitter = ChunkedSubmitter(flow.store, flow.gateway, builder=flow.builder, clock=flow.clock)
    with pytest.raises(NeedsPerson, match="claude-sonet-4-6"):
        submitter.submit("alone", words(2))
    assert shop.faults.posts == 0


def test_the_simulator_shows_its_models(shop: Shop) -> None:
    """The list that the check reads has every model that the simulator takes."""
    assert Gateway(simulated_client(api=shop.sim)).models() == tuple(MODELS)
