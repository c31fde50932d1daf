"""Looks before anything is sent, and a workflow's own checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shop import Shop, tiny_spec, words

from batchkit.errors import MissingField, UsageError
from batchkit.preview import preview
from batchkit.workflow import Workflow


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


def test_a_preview_is_what_is_sent(shop: Shop) -> None:
    """But for the nonce, the request shown is the request that the provider gets."""
    flow = shop.flow()
    shown = flow.preview(words(3))
    run = shop.start(rows=words(1), flow=flow)
    run.advance()
    (remote,) = shop.sim._world.batches()
    assert remote.requests is not None
    sent = next(iter(remote.requests))
    nonce = json.loads(sent)["custom_id"].rpartition("-")[2]
    assert json.loads(sent.replace(nonce, shown.custom_id.rpartition("-")[2])) == shown.request
    assert shown.bytes == len(sent.encode())


def test_a_preview_sends_and_stores_no_row(shop: Shop) -> None:
    """A preview calls no API and makes no run."""
    flow = shop.flow()
    flow.preview(words(3))
    assert shop.faults.seen == []
    assert flow.store.runs() == []


def test_a_preview_says_what_it_costs_at_most(shop: Shop) -> None:
    """The text names the model, about how many tokens go in, and a bound on the cost; a larger tier costs more."""
    flow = shop.flow()
    small, large = flow.preview(words(1)), flow.preview(words(1), tier=1)
    assert (small.model, small.max_tokens, small.key) == ("claude-haiku-4-5", 300, "S0000")
    assert small.worst_usd is not None
    assert large.worst_usd is not None
    assert 0 < small.worst_usd < large.worst_usd
    assert f"at most ${small.worst_usd:.6f}" in str(small)
    assert "Word: w0000" in str(small)
    assert large.request["params"]["max_tokens"] == 600


def test_a_preview_passes_over_what_would_not_be_sent() -> None:
    """The first record that would be sent is shown, and those before it are told by reason."""
    rows = [{"sku": None, "word": "x", "brand": ""}, *words(1)]
    shown = preview(tiny_spec(), rows)
    assert (shown.key, shown.skipped) == ("S0000", {"input.missing_key": 1})
    assert "1 record before it would not be sent: input.missing_key" in str(shown)


def test_a_preview_reads_only_the_beginning() -> None:
    """A source without an end is read no further than needed."""

    def endless() -> Iterator[dict[str, Any]]:
        while True:
            yield from words(1)

    assert preview(tiny_spec(), endless).key == "S0000"


def test_a_preview_is_text_wherever_it_is_shown() -> None:
    """Markup and control characters of a row stay text in notebooks and terminals."""
    shown = preview(tiny_spec(), [{"sku": "1", "word": "<script>\x1b\u202e", "brand": ""}])
    assert "<script>" not in shown._repr_html_()
    assert "\x1b" not in str(shown)
    assert "\u202e" not in str(shown)


@pytest.mark.parametrize("rows", [[], [{"sku": "", "word": "x", "brand": ""}]])
def test_nothing_to_preview_is_said(rows: list[Any]) -> None:
    """Where no record would be sent there is nothing to show, and the message says why."""
    with pytest.raises(UsageError, match="none of these rows would be sent"):
        preview(tiny_spec(), rows)


def test_a_preview_checks_fields_and_tier() -> None:
    """A missing field and a tier that is not there are refused."""
    with pytest.raises(MissingField, match="word"):
        preview(tiny_spec(), [{"sku": "1", "brand": ""}])
    with pytest.raises(UsageError, match="tiers 0 to 1, not 2"):
        preview(tiny_spec(), words(1), tier=2)


@pytest.mark.parametrize(
    "options", [{"max_batch_rows": 0}, {"max_batch_rows": 100_001}, {"max_batch_bytes": 256_000_001}]
)
def test_limits_beyond_the_api_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    """A workflow takes no limit that the API does not, and makes no store then."""
    with pytest.raises(UsageError, match="the API takes"):
        Workflow(tiny_spec(), store=tmp_path / "s.db", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_workflow_needs_no_key_until_a_run_moves(tmp_path: Path) -> None:
    """Starting, looking and forecasting work without a client."""
    flow = Workflow(tiny_spec(), store=tmp_path / "s.db")
    run = flow.start("run", words(2), unlocked=True)
    assert flow.forecast(words(2)).rows == 2
    assert run.progress.state == "sending"
    flow.store.close()


def test_a_workflow_hands_out_its_parts(shop: Shop) -> None:
    """The parts of a workflow are those of its spec; another spec makes another workflow and changes nothing."""
    flow = shop.flow()
    other = tiny_spec(prefix="o_")
    assert flow.builder.spec is flow.spec
    assert flow.with_spec(other).spec is other
    assert flow.spec is shop.spec
    assert flow.with_spec(other).store is flow.store
    assert flow.validator is not None
    assert flow.escalator is not None
    assert shop.spec.fingerprint[:6] in repr(flow)


def test_run_is_start_and_wait(shop: Shop) -> None:
    """The short form starts and waits."""
    assert shop.flow().run("run", words(2), unlocked=True).progress.done
