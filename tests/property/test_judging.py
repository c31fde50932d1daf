"""Whatever comes back, judging gives a verdict, and every row comes to an end."""

from __future__ import annotations

import json
from typing import Any, Literal

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from batchkit.contract import Contract
from batchkit.escalator import Escalator
from batchkit.model import Usage
from batchkit.money import PRICES, cost, worst_case
from batchkit.policy import ROUTED, Policy, Step, escalate, human, pause, quarantine, resend, retry
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.rules import Fields
from batchkit.spec import Spec
from batchkit.states import RowEvent
from batchkit.tier import Tier
from batchkit.validator import Validator
from batchkit.verdict import Verdict


class Answer(BaseModel):
    category: Literal["Audio", "Cables"] | None
    tags: list[str] = []
    score: float | None = None


def picky(out: Answer, row: Fields) -> bool | str:
    return "a" not in (row.get("title") or "") or f"{1 // len(out.tags)}"


EXACT = Contract(Answer, rules=[picky], sparse=lambda out: out.category is None)
LENIENT = Contract(Answer, lenient=True)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ANSWER = st.fixed_dictionaries(
    {"category": st.sampled_from(["Audio", "Cables", None, "audio"])},
    optional={"tags": st.lists(st.text(max_size=5), max_size=3), "score": JSON, "x": JSON},
).map(json.dumps)
TEXT = st.text() | ANSWER | st.tuples(st.text(max_size=20), ANSWER, st.text(max_size=20)).map("".join)
BLOCK = JSON | st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "thinking", "tool_use"]), "text": TEXT | JSON}
)
USAGE = JSON | st.fixed_dictionaries({"input_tokens": st.integers() | JSON, "output_tokens": st.integers()})
MESSAGE = JSON | st.fixed_dictionaries(
    {
        "model": JSON | st.just("claude-haiku-4-5"),
        "content": JSON | st.lists(BLOCK, max_size=3),
        "stop_reason": JSON | st.sampled_from(["end_turn", "max_tokens", "refusal", "pause_turn"]),
        "usage": USAGE,
    }
)
ERROR = JSON | st.fixed_dictionaries({"error": JSON | st.fixed_dictionaries({"type": JSON, "message": JSON})})
RESULT = JSON | st.one_of(
    st.fixed_dictionaries({"type": st.just("succeeded"), "message": MESSAGE}),
    st.fixed_dictionaries({"type": st.just("errored"), "error": ERROR}),
    st.fixed_dictionaries({"type": st.sampled_from(["expired", "canceled"]) | JSON}),
)
LINE = st.binary() | st.fixed_dictionaries({"custom_id": JSON | st.just("a-bcdefgh2"), "result": RESULT}).map(
    lambda line: json.dumps(line).encode()
)


def check_verdict(verdict: Verdict[Answer], contract: Contract[Answer]) -> None:
    """A verdict is whole: a reason or a valid output whose text reads back to it."""
    assert isinstance(verdict.text, bytes)
    assert isinstance(verdict.detail, str)
    assert verdict.usage is None or all(type(n) is int and n >= 0 for n in verdict.usage)
    if verdict.valid:
        assert isinstance(verdict.output, Answer)
        assert contract.load(verdict.text) == verdict.output
        assert set(json.loads(verdict.text)) <= {"category", "tags", "score"}
    else:
        assert isinstance(verdict.reason, Reason)


@given(line=LINE, row=st.dictionaries(st.sampled_from(["title", "x"]), st.none() | st.text(), max_size=2))
@example(line=b'{"custom_id":"a","result":{"type":"succeeded","message":{"content":[{"type":[]}]}}}', row={})
def test_every_line_gets_a_verdict(line: bytes, row: dict[str, str | None]) -> None:
    """Any bytes at all are judged without an error, and a valid verdict is truly valid."""
    for contract in (EXACT, LENIENT):
        check_verdict(Validator(contract).judge(line, row), contract)


@given(text=TEXT | st.binary())
def test_every_answer_gets_a_verdict(text: str | bytes) -> None:
    """Any text or bytes as an answer is judged without an error, strictly and leniently."""
    for contract in (EXACT, LENIENT):
        check_verdict(contract.check(text, {"title": "a"}), contract)


@given(text=TEXT)
def test_lenient_takes_whatever_strict_takes(text: str) -> None:
    """A lenient contract accepts every answer that a strict one accepts, with the same output."""
    strict = Contract(Answer).check(text)
    if strict.valid:
        assert LENIENT.check(text).output == strict.output


@given(value=JSON | st.dictionaries(st.sampled_from(["category", "tags", "score", "x"]), JSON))
def test_every_persons_answer_gets_a_verdict(value: Any) -> None:
    """Whatever a person hands in is judged without an error."""
    if not isinstance(value, (str, bytes)):
        check_verdict(EXACT.check(value, {}), EXACT)


@given(
    doubled=st.sampled_from(["category", "tags", "score"]),
    value=st.sampled_from(['"Audio"', "[]", "1.5", "null"]),
)
def test_a_doubled_key_is_never_valid(doubled: str, value: str) -> None:
    """No answer in which a key stands twice is accepted, whichever key and value."""
    assert not EXACT.check(f'{{"category":"Audio","tags":["b"],"score":1.0,"{doubled}":{value}}}', {}).valid


STEPS = st.lists(st.builds(resend, st.integers(1, 5)) | st.builds(retry, st.integers(1, 5)), max_size=3)
LADDER = st.tuples(STEPS, st.booleans(), st.sampled_from([human(), quarantine(), pause()])).map(
    lambda parts: (*parts[0], *([escalate()] if parts[1] else []), parts[2])
)
GLOB = st.sampled_from([reason.value for reason in ROUTED] + ["*", "output.*", "api.*", "batch.*", "*e*"])
ENDS = {RowEvent.ACCEPTED, RowEvent.TO_HUMAN, RowEvent.QUARANTINED, RowEvent.MONEY_PAUSED}


@given(
    ladders=st.lists(st.tuples(GLOB, LADDER), max_size=4),
    tiers=st.integers(1, 3),
    reasons=st.lists(st.sampled_from(ROUTED), min_size=1, max_size=5),
)
def test_every_ladder_ends(
    ladders: list[tuple[str, tuple[Step, ...]]], tiers: int, reasons: list[Reason]
) -> None:
    """Under any policy, whatever verdicts keep coming in whatever mix, a row ends after boundedly many answers."""
    policy = Policy.default()
    for glob, steps in ladders:
        policy = policy.on(glob, *steps)
    spec = Spec(
        Contract(Answer),
        Prompt("{t}"),
        key="k",
        tiers=[Tier("claude-haiku-4-5", max_tokens=9)] * tiers,
        policy=policy,
    )
    escalator = Escalator(spec)
    tier = tries = resends = 0
    # At each tier at most 5 resends, with up to 20 tries between, plus the step away.
    for turn in range(200):
        found = escalator.decide(reasons[turn % len(reasons)], tier=tier, tries=tries, resends=resends)
        if found.event in ENDS:
            return
        assert (found.tier, found.tries, found.resends) != (tier, tries, resends)
        assert found.tier < tiers
        tier, tries, resends = found.tier, found.tries, found.resends
    raise AssertionError("a row that never ends")


@given(
    model=st.sampled_from(sorted(PRICES)),
    split=st.lists(st.integers(0, 50_000), min_size=4, max_size=4),
    out=st.integers(0, 2_000),
    batch=st.booleans(),
)
def test_no_bill_exceeds_its_reservation(model: str, split: list[int], out: int, batch: bool) -> None:
    """However the tokens of a request are billed, the worst case covers it."""
    into, short, long, read = split
    usage = Usage(input=into, output=out, cache_write_5m=short, cache_write_1h=long, cache_read=read)
    price = PRICES[model]
    assert cost(usage, price, batch=batch) <= worst_case(sum(split), out, price, batch=batch)
