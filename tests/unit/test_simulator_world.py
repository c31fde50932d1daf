"""The simulator's time, its bill, its journal, and its determinism."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from batchkit.clock import SystemClock
from batchkit.testing import (
    Answer,
    FakeClock,
    Latency,
    Request,
    Response,
    SimulatedAPI,
    SimulatedClock,
    echo_model,
    fixed_model,
)
from batchkit.testing.answers import prompt_text
from batchkit.testing.http import read_all
from batchkit.testing.message import count_input_tokens, message

HEADERS = {"x-api-key": "key", "anthropic-version": "2026-10-21", "content-type": "application/json"}
DAY = 86_400.0
BATCHES = "/v1/messages/batches"


def call(api: SimulatedAPI, method: str, path: str, body: Any = None) -> Response:
    return api.handle(
        Request(
            method=method, path=path, headers=HEADERS, body=b"" if body is None else json.dumps(body).encode()
        )
    )


def rows(count: int, **params: Any) -> list[dict[str, Any]]:
    base = {"model": "claude-haiku-4-5", "max_tokens": 100}
    return [
        {
            "custom_id": f"row-{number}",
            "params": {**base, "messages": [{"role": "user", "content": f"text {number}"}], **params},
        }
        for number in range(count)
    ]


def create(api: SimulatedAPI, requests: list[dict[str, Any]]) -> str:
    response = call(api, "POST", BATCHES, {"requests": requests})
    assert response.status == 200, response
    return str(response.json()["id"])


def results(api: SimulatedAPI, batch_id: str) -> dict[str, Any]:
    body = read_all(call(api, "GET", f"{BATCHES}/{batch_id}/results").body)
    return {line["custom_id"]: line["result"] for line in map(json.loads, body.splitlines())}


def ask(**params: Any) -> dict[str, Any]:
    base = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [{"role": "user", "content": "x"}]}
    return {**base, **params}


# -- determinism


def test_answers_do_not_depend_on_the_order_of_arrival() -> None:
    """The same request gets the same answer in any batch and any order, because only it seeds its generator."""

    def dice(params: Mapping[str, Any], rng: random.Random) -> Answer:
        return Answer(text=str(rng.random()))

    texts = []
    for shuffle in (False, True):
        api = SimulatedAPI(dice, seed=4, latency=Latency(1, 2))
        requests = rows(20)
        if shuffle:
            requests.reverse()
            create(api, rows(1, system="another batch first"))
        batch = create(api, requests)
        api.advance(5)
        texts.append({name: result["message"]["content"] for name, result in results(api, batch).items()})
    assert texts[0] == texts[1]
    assert len({str(text) for text in texts[0].values()}) == 20


def test_another_seed_is_another_history() -> None:
    """Ids, durations and the order of results follow the seed."""
    seen = set()
    for seed in range(5):
        api = SimulatedAPI(echo_model, seed=seed)
        batch = create(api, rows(10))
        api.advance(DAY)
        ended = call(api, "GET", f"{BATCHES}/{batch}").json()
        seen.add((batch, ended["ended_at"], tuple(results(api, batch))))
    assert len(seen) == 5
    assert len({part for story in seen for part in story}) == 15


def test_most_batches_end_within_an_hour_and_all_in_time() -> None:
    """Durations lie between the latency's bounds, most of them under an hour by default."""
    durations = [Latency().draw(random.Random(number)) for number in range(1_000)]
    assert min(durations) >= Latency().min
    assert max(durations) <= Latency().max
    assert sum(duration < 3_600 for duration in durations) > 800


def test_an_impossible_latency_is_refused() -> None:
    """A latency has a positive least and no smaller most."""
    with pytest.raises(ValueError, match="max is below min"):
        Latency(10, 5)
    with pytest.raises(ValueError, match="min"):
        Latency(0, 5)


def test_time_only_moves_forward() -> None:
    """Virtual time cannot be set back, by the method or by the control endpoint."""
    api = SimulatedAPI(echo_model)
    started = api.now
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="forward"):
            api.advance(wrong)
    bodies: list[Any] = [{"seconds": -5}, {"seconds": None}, {}, []]
    for body in bodies:
        assert call(api, "POST", "/_sim/advance", body).status == 400
    assert api.now == started
    assert call(api, "GET", "/_sim/nothing").status == 404


def test_an_unknown_setting_is_refused() -> None:
    """A setting that does not exist is an error, not ignored."""
    with pytest.raises(TypeError):
        SimulatedAPI(echo_model, latencey=Latency(1, 2))


# -- money


def test_paid_rows_are_counted_for_every_batch_they_were_in() -> None:
    """A row sent twice is on the bill twice; rows that failed or expired are not on it."""

    def third_fails(params: Mapping[str, Any], rng: random.Random) -> Answer:
        number = int(prompt_text(params).split()[1])
        if number % 3 == 1:
            return Answer(kind="errored", error_type="overloaded_error", error_message="Overloaded")
        return Answer(kind="expired") if number % 3 == 2 else Answer(text="yes")

    api = SimulatedAPI(third_fails, latency=Latency(1, 2))
    first = create(api, rows(9))
    assert api.bill().lines == 0
    api.advance(5)
    create(api, rows(3))
    api.advance(5)
    assert api.bill().times_paid() == {"row-0": 2, "row-3": 1, "row-6": 1}
    kinds = {name: result["type"] for name, result in results(api, first).items()}
    assert [kinds[f"row-{number}"] for number in range(3)] == ["succeeded", "errored", "expired"]
    assert results(api, first)["row-1"]["error"]["error"] == {
        "type": "overloaded_error",
        "message": "Overloaded",
    }


def test_the_bill_is_the_sum_of_the_usage_in_the_results() -> None:
    """Token sums per model equal what the result lines say, cache fields included."""
    api = SimulatedAPI(echo_model, latency=Latency(1, 2))
    cached = [{"type": "text", "text": "rules " * 1_000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    batch = create(api, rows(50, system=cached))
    api.advance(5)
    usages = [result["message"]["usage"] for result in results(api, batch).values()]
    sums = api.bill().models["claude-haiku-4-5"]
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert sums[name] == sum(usage[name] for usage in usages) > 0
    for usage in usages:
        assert usage["cache_creation"]["ephemeral_1h_input_tokens"] == usage["cache_creation_input_tokens"]
        total = (
            usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
        )
        assert total == count_input_tokens(rows(1, system=cached)[0]["params"]) or total > 1_024


# -- messages


def test_an_answer_longer_than_the_cap_is_cut() -> None:
    """Text beyond `max_tokens` is cut off, and the stop reason says so."""
    value = message(ask(max_tokens=5), Answer(text="word " * 50), "msg_1", random.Random(0), "batch")
    assert value["stop_reason"] == "max_tokens"
    assert value["usage"]["output_tokens"] == 5
    assert value["content"] == [{"type": "text", "text": "word word word word "}]


def test_thinking_eats_the_cap_unless_it_is_off() -> None:
    """A model that thinks unasked spends a small cap on thinking and says nothing; switched off, it answers."""
    asked = ask(model="claude-haiku-5-5", max_tokens=300)
    value = message(asked, Answer(text="fine"), "msg_1", random.Random(0), "batch")
    assert [block["type"] for block in value["content"]] == ["thinking"]
    assert (value["stop_reason"], value["usage"]["output_tokens"]) == ("max_tokens", 300)
    quiet = message(
        {**asked, "thinking": {"type": "disabled"}}, Answer(text="fine"), "msg_1", random.Random(0), "batch"
    )
    assert quiet["content"] == [{"type": "text", "text": "fine"}]
    brief = message(
        {**asked, "output_config": {"effort": "low"}}, Answer(text="fine"), "m", random.Random(0), "batch"
    )
    assert [block["type"] for block in brief["content"]] == ["thinking", "text"]
    assert 20 < brief["usage"]["output_tokens_details"]["thinking_tokens"] < brief["usage"]["output_tokens"]


def test_a_model_can_set_every_part_of_its_answer() -> None:
    """Blocks, stop reason, tokens, usage and the model's name are taken from the answer where it gives them."""
    answer = Answer(
        blocks=({"type": "tool_use", "id": "t", "name": "n", "input": {}},),
        stop_reason="tool_use",
        output_tokens=7,
        usage={"cache_read_input_tokens": 3},
        model="claude-other",
    )
    value = message(ask(), answer, "msg_1", random.Random(0), "batch")
    assert value["content"] == [{"type": "tool_use", "id": "t", "name": "n", "input": {}}]
    assert (value["stop_reason"], value["model"]) == ("tool_use", "claude-other")
    assert (value["usage"]["output_tokens"], value["usage"]["cache_read_input_tokens"]) == (7, 3)


def test_the_simple_models_read_the_prompt_or_do_not() -> None:
    """`echo_model` answers with the last user text, `{}` without one; `fixed_model` always the same."""
    blocks = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    rng = random.Random(0)
    assert echo_model(ask(messages=[{"role": "user", "content": blocks}]), rng).text == "a\nb"
    assert echo_model(ask(messages=[{"role": "assistant", "content": "x"}]), rng).text == "{}"
    assert echo_model({}, rng).text == "{}"
    assert echo_model(ask(messages=[{"role": "user", "content": None}]), rng).text == "{}"
    assert fixed_model("same")(ask(), rng) == Answer(text="same")


# -- the journal


def history(path: Path) -> SimulatedAPI:
    """Write a journal in which everything happened once."""
    api = SimulatedAPI(echo_model, seed=2, state=path, latency=Latency(100, 200))
    create(api, rows(3))
    api.advance(300)
    gone = create(api, rows(2))
    call(api, "POST", "/v1/messages", ask())
    api.advance(300)
    assert call(api, "DELETE", f"{BATCHES}/{gone}").status == 200
    canceled = create(api, rows(30))
    api.advance(50)
    assert call(api, "POST", f"{BATCHES}/{canceled}/cancel").status == 200
    return api


def test_a_simulator_opened_again_continues(tmp_path: Path) -> None:
    """Batches, times, cancellations, deletions, answers and the bill are the same after a restart."""
    path = tmp_path / "state"
    api = history(path)
    api.close()
    again = SimulatedAPI(echo_model, seed=2, state=path)
    assert again.now == api.now
    api_state, again_state = api.state(), again.state()
    assert again_state == api_state
    assert [batch["processing_status"] for batch in again_state["batches"]] == ["ended", "ended", "canceling"]
    assert list(again.bill().entries()) == list(api.bill().entries())
    again.advance(300)
    assert create(again, rows(1)) not in {batch["id"] for batch in api_state["batches"]}
    again.close()


def test_request_ids_do_not_repeat_after_a_restart(tmp_path: Path) -> None:
    """The ids of answers are new ones after every start, so that logs can tell them apart."""
    seen = []
    for _ in range(3):
        api = SimulatedAPI(echo_model, state=tmp_path / "state")
        seen += [call(api, "GET", BATCHES).headers["request-id"] for _ in range(3)]
        api.close()
    assert len(set(seen)) == 9


def test_a_torn_last_record_is_dropped_wherever_it_was_torn(tmp_path: Path) -> None:
    """A journal cut at any byte of its last record reads as if that record never was, and can be written on."""
    path = tmp_path / "state"
    api = SimulatedAPI(echo_model, state=path)
    first = create(api, rows(1))
    before = path.stat().st_size
    second = create(api, rows(2))
    api.close()
    whole = path.read_bytes()
    for size in range(before, len(whole), 7):
        path.write_bytes(whole[:size])
        torn = SimulatedAPI(echo_model, state=path)
        assert [batch["id"] for batch in torn.state()["batches"]] == [first]
        assert create(torn, rows(2)) == second
        torn.close()
    again = SimulatedAPI(echo_model, state=path)
    assert [batch["id"] for batch in again.state()["batches"]] == [first, second]
    again.close()


def test_a_damaged_record_ends_the_journal(tmp_path: Path) -> None:
    """A record whose bytes changed is not believed."""
    path = tmp_path / "state"
    api = SimulatedAPI(echo_model, state=path)
    create(api, rows(1))
    api.close()
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    again = SimulatedAPI(echo_model, state=path)
    assert again.state()["batches"] == []
    again.close()


def test_a_create_is_on_disk_before_it_is_answered(tmp_path: Path) -> None:
    """A copy of the journal taken as soon as a create was answered holds that batch."""
    path = tmp_path / "state"
    api = SimulatedAPI(echo_model, state=path)
    batch = create(api, rows(1))
    (tmp_path / "copy").write_bytes(path.read_bytes())
    copy = SimulatedAPI(echo_model, state=tmp_path / "copy")
    assert [found["id"] for found in copy.state()["batches"]] == [batch]
    copy.close()
    api.close()


def test_the_journal_is_private(tmp_path: Path) -> None:
    """Only its owner may read the journal: it holds the rows."""
    api = SimulatedAPI(echo_model, state=tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    api.close()


# -- clocks


def test_a_fake_clock_moves_when_slept_on() -> None:
    """Sleeping and advancing move both times; a jump moves the wall clock alone."""
    clock = FakeClock(1_000.0)
    clock.sleep(5)
    clock.sleep(-5)
    clock.advance(5)
    assert (clock.now(), clock.monotonic()) == (1_010.0, 10.0)
    clock.jump(-86_400)
    assert (clock.now(), clock.monotonic()) == (1_010.0 - 86_400, 10.0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_a_simulated_clock_moves_the_simulator() -> None:
    """Sleeping on a simulator's clock passes its virtual time."""
    api = SimulatedAPI(echo_model)
    clock = SimulatedClock(api)
    started = clock.now()
    clock.sleep(100)
    assert (clock.now(), clock.monotonic(), api.now) == (started + 100,) * 3
    clock.sleep(-1)
    assert api.now == started + 100


def test_the_system_clock_is_the_machines() -> None:
    """Its times move forward by themselves and by sleeping."""
    clock = SystemClock()
    wall, steady = clock.now(), clock.monotonic()
    clock.sleep(0.01)
    clock.sleep(-1)
    assert clock.monotonic() - steady >= 0.009
    assert clock.now() > wall > 1_700_000_000
