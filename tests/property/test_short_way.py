"""The short way from a result line to the store leads where the long way leads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from batchkit.contract import Contract
from batchkit.escalator import Escalator
from batchkit.ids import BatchId, CustomId, RowId
from batchkit.manifest import Manifest, Standing
from batchkit.model import Applied, Batch, Lease, Settled
from batchkit.pricing import Pricing
from batchkit.prompt import Prompt
from batchkit.reading import FileReading
from batchkit.reasons import Reason
from batchkit.spec import Spec
from batchkit.storage import Store
from batchkit.tier import Tier
from batchkit.validator import Validator


class Answer(BaseModel):
    category: Literal["Audio", "Cables"] | None
    tags: list[str] = []


class Numbered(BaseModel):
    category: Literal["Audio", "Cables"] | None
    score: float = 1.0


CONTRACTS: list[Contract[Any]] = [
    Contract(Answer),
    Contract(Answer, lenient=True),
    Contract(Numbered),
    Contract(Answer, rules=[lambda out: out.category != "Cables"], sparse=lambda out: out.category is None),
]
SPECS = [
    Spec(
        contract,
        Prompt("{title}"),
        key="sku",
        tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("nobody-knows-its-price", max_tokens=300)],
    )
    for contract in CONTRACTS
]
MEMBERS = 5
STANDINGS: list[Standing] = [(0, 0, 0, None), (0, 1, 0, Reason.OUTPUT_SCHEMA), (1, 0, 2, None)]

ODD: list[Any] = [None, True, False, 0, 1, 8, 9, 10, -1, 1.0, 10**30, "", "text", "id-1", "errored", "stop_sequence",
       "max_tokens", "thinking", "claude-opus-4-5", [], {}, [{}], [{"type": "text"}]]  # fmt: skip
ANSWERS = st.sampled_from(
    [
        '{"category": "Audio"}',
        ' {"category": null}\n',
        '{"category": "Cables", "tags": ["a: b", "ü🎁"]}',
        '{"category": "Audio", "category": "Cables"}',
        '{"category": "Audio", "category" : null, "tags": []}',
        '{"category": "Audio", "score": 1e999}',
        '{"category": "Audio", "score": 2.5}',
        '{"category": "audio"}',
        '{"category": "Audio", "more": 1}',
        'Here: {"category": "Audio"}',
        "{}",
        "",
        " ",
        "\ud800",
        "[1]",
    ]
)


def usual(number: int, text: str) -> dict[str, Any]:
    """Give the line that nearly all lines are."""
    usage = {
        "input_tokens": 290,
        "cache_creation_input_tokens": 9,
        "cache_read_input_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 2},
        "output_tokens": 60,
    }
    message = {
        "model": "claude-haiku-4-5-20251001",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    return {"custom_id": f"id-{number}", "result": {"type": "succeeded", "message": message}}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the path of every value in a line, but of the line itself."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, (dict, list)):
        inner = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [(*path, name) for name, _ in inner] + [p for n, v in inner for p in places(v, (*path, n))]


def odd(line: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Give a line with another value at a place; without any where that is the place's own name."""
    made = json.loads(json.dumps(line))
    *outer, last = path
    holder: Any = made
    for step in outer:
        holder = holder[step]
    if value == last and isinstance(holder, dict):
        del holder[last]
    else:
        holder[last] = json.loads(json.dumps(value))
    return dict(made)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    line = usual(draw(st.integers(0, MEMBERS)), draw(ANSWERS))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        path = draw(st.sampled_from(places(line)))
        line = odd(line, path, draw(st.sampled_from([path[-1], *ODD])))
    raw = json.dumps(line, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return (
        raw
        if draw(st.integers(0, 9))
        else raw[: draw(st.integers(0, len(raw)))] + draw(st.binary(max_size=9))
    )


class Pages:
    """A store that keeps what is settled."""

    def __init__(self) -> None:
        self.settled: list[Settled] = []

    def settle(self, lease: Lease, source: BatchId, page: Sequence[Settled], *, by: str = "") -> Applied:
        assert len(page) == len(list(page))
        self.settled += page
        return Applied(applied=len(page))


class Named:
    """All that a reading asks of its batch."""

    id = BatchId(1)


class LongWay(FileReading[Any]):
    SHORT_WAY = False


def read(kind: type[FileReading[Any]], spec: Spec[Any], given: list[bytes], waiting: list[bool]) -> object:
    """Read lines; give all that can be seen of it afterwards."""
    pages = Pages()
    manifest = Manifest(
        index={CustomId(f"id-{n}"): n for n in range(MEMBERS)},
        rows=[RowId(70 + n) for n in range(MEMBERS)],
        standings=[STANDINGS[n % len(STANDINGS)] for n in range(MEMBERS)],
        open=bytearray(waiting),
    )
    reading = kind(
        cast("Store", pages),
        cast("Lease", None),
        cast("Batch", Named()),
        manifest,
        validator=Validator(spec, max_line=2_000),
        escalator=Escalator(spec),
        pricing=Pricing(tiers=spec.tiers, prices={}),
    )
    reading.read(b"\n".join(part) + b"\n" for part in (given[:3], given[3:]))
    reading.settle_parked()
    seen = (
        reading.facts(),
        reading.duplicates,
        reading.foreign,
        reading.unreadable,
        reading.need,
        reading.in_hand,
    )
    return sorted(pages.settled, key=lambda item: item.row), seen, reading.settled, bytes(manifest.open)


@pytest.mark.parametrize("spec", SPECS, ids=["shape", "lenient", "numbers", "rules"])
def test_any_one_odd_value_leads_where_the_long_way_leads(spec: Spec[Any]) -> None:
    """A usual line with one value gone, or with another in its place, is settled and counted the same both ways."""
    line = usual(0, '{"category": "Audio"}')
    for path in places(line):
        for value in [path[-1], *ODD]:
            given = [
                json.dumps(one).encode()
                for one in (
                    usual(3, '{"category": null}'),
                    odd(line, path, value),
                    usual(1, "{}"),
                    usual(2, '{"category": null}'),
                    line,
                )
            ]
            waiting = [n != 1 for n in range(MEMBERS)]
            ways = [read(kind, spec, given, waiting) for kind in (FileReading, LongWay)]
            assert ways[0] == ways[1], (path, value)


@given(
    st.sampled_from(SPECS),
    st.lists(lines(), max_size=7),
    st.lists(st.booleans(), min_size=MEMBERS, max_size=MEMBERS),
)
@example(
    SPECS[0],
    [json.dumps(usual(n, '{"category": "Audio"}')).encode() for n in range(MEMBERS)],
    [True] * MEMBERS,
)
def test_both_ways_settle_and_count_the_same(
    spec: Spec[Any], given: list[bytes], waiting: list[bool]
) -> None:
    """Whatever the lines are, the short way and the long way settle the same rows and count the same lines."""
    assert read(FileReading, spec, given, waiting) == read(LongWay, spec, given, waiting)


@given(st.sampled_from(CONTRACTS), ANSWERS | st.text())
def test_what_is_accepted_at_once_is_what_judging_accepts(contract: Contract[Any], text: str) -> None:
    """The short way keeps the text that judging keeps, and says of any other answer what judging says."""
    kept = contract.accepts(text)
    verdict = contract.judge_text(text, None, None, "")
    assert (verdict.valid and verdict.text == kept) if isinstance(kept, bytes) else kept == verdict


@pytest.mark.parametrize("kind", [FileReading, LongWay])
def test_no_answer_is_validated_twice(kind: type[FileReading[Any]]) -> None:
    """A validator that refuses what it has seen, or fails the first time, decides the same both ways: it is asked once."""
    asked: list[str] = []

    class Once(BaseModel):
        title: str
        size: int = 0

        @field_validator("title")
        @classmethod
        def new(cls, value: str) -> str:
            asked.append(value)
            if value == "bad":
                raise RuntimeError("the first time")
            return value

    spec = SPECS[0].evolve(contract=Contract(Once))
    texts = [
        '{"title": "a", "title": "b"}',
        '{"title": "bad"}',
        '{"title": "c", "size": "no"}',
        '{"title": "d"}',
    ]
    given = [json.dumps(usual(n, text)).encode() for n, text in enumerate(texts)]
    settled, *_ = cast("tuple[list[Settled]]", read(kind, spec, given, [True] * MEMBERS))
    assert len(settled) == len(asked) == 4
    assert [item.verdict for item in settled] == [
        Reason.OUTPUT_UNPARSEABLE, Reason.OUTPUT_RULE, Reason.OUTPUT_SCHEMA, None
    ]  # fmt: skip


def test_usual_lines_go_the_short_way() -> None:
    """A valid answer of the usual form passes by the long way's judging; a broken one does not."""
    judged: list[int] = []

    class Watched(FileReading[Any]):
        def _judge(self, number: int, line: Any, fields: Any) -> None:
            judged.append(number)
            super()._judge(number, line, fields)

    thought = usual(1, '{"category": null}')
    thought["result"]["message"]["content"].insert(0, {"type": "thinking"})
    given = [json.dumps(line).encode() for line in (usual(0, '{"category": "Audio"}'), thought)]
    read(Watched, SPECS[0], given, [True] * MEMBERS)
    assert judged == [1]
