"""What holds for every key, text, tier and step."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from batchkit.alike import AlikeRows
from batchkit.builder import RequestBuilder
from batchkit.contract import Contract
from batchkit.frozen import FrozenFields
from batchkit.ids import Nonce, RowId, RowKey
from batchkit.model import RowView, Usage
from batchkit.policy import Policy, quarantine, retry
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.source.freezing import source_line
from batchkit.spec import Spec
from batchkit.states import RowState
from batchkit.tier import Tier


class Answer(BaseModel):
    summary: str


def _spec(prefix: str = "sku_") -> Spec[Answer]:
    return Spec(
        Contract(Answer),
        Prompt("{{Title}}: {title}\n{description} {title}", missing='"(none)"'),
        key="sku",
        prefix=prefix,
        tiers=[
            Tier("claude-haiku-4-5", max_tokens=300),
            Tier("claude-sonnet-4-6", max_tokens=600),
            Tier("claude-sonnet-5", max_tokens=600, prompt=Prompt("{description}")),
        ],
        policy=Policy.default().on("output.*", retry(3, show_error=True, max_tokens=1.3), quarantine()),
    )


BUILDER = RequestBuilder(_spec(), schema={"type": "object"})
ENCODABLE = st.text(st.characters(exclude_categories=["Cs"]))
# Keys that fit, that nearly fit, and that try to look like hashed ones.
KEYS = st.one_of(
    ENCODABLE.filter(lambda key: key.strip() != ""),
    st.from_regex(r"[A-Za-z0-9_-]{1,60}", fullmatch=True),
    st.from_regex(r"x-([a-z0-9]{1,4}-)?[0-9a-f]{24}", fullmatch=True),
).map(RowKey)
NONCES = st.from_regex(r"[a-z2-7]{8}", fullmatch=True).map(Nonce)
FIELDS = st.fixed_dictionaries({"title": st.none() | ENCODABLE, "description": st.none() | ENCODABLE})


@given(st.sets(KEYS, min_size=2, max_size=30), NONCES, st.booleans(), st.sampled_from(["", "sku_", "p" * 24]))
def test_ids_are_legal_distinct_and_read_back(
    keys: set[RowKey], nonce: Nonce, opaque: bool, prefix: str
) -> None:
    """Whatever the keys are, their ids fit the API, differ from each other, and give back key part and nonce."""
    builder = RequestBuilder(_spec(prefix), opaque=opaque)
    keys |= {RowKey(builder.key_part(key)) for key in keys}
    ids = {builder.custom_id(key, nonce): key for key in keys}
    assert len(ids) == len(keys)
    for custom_id, key in ids.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", custom_id)
        assert builder.parse(custom_id) == (builder.key_part(key), nonce)


@given(
    KEYS,
    FIELDS,
    NONCES,
    st.integers(0, 2),
    st.none() | st.sampled_from(list(Reason)),
    st.integers(0, 5),
    st.text(),
    st.none() | st.just(Usage()),
)
def test_a_size_is_exactly_the_length_that_is_sent(
    key: RowKey,
    fields: dict[str, str | None],
    nonce: Nonce,
    tier: int,
    reason: Reason | None,
    tries: int,
    detail: str,
    usage: Usage | None,
) -> None:
    """For any row in any state the declared length is the real one, and the bytes are one JSON object."""
    detail = detail.encode("utf-8", "replace").decode()
    size = BUILDER.text_size(fields)
    row = RowView(
        RowId(1),
        key,
        RowState.PENDING,
        reason,
        tier,
        tries,
        0,
        size,
        None,
        None,
        0,
        0,
        fields,
        detail,
        usage=usage,
    )
    body = BUILDER.encode(row, nonce)
    assert BUILDER.size(row) == len(body)
    assert BUILDER.encode(row, nonce) == body
    request: dict[str, Any] = json.loads(body)
    assert request["custom_id"] == BUILDER.custom_id(key, nonce)
    text = request["params"]["messages"][0]["content"]
    assert text.startswith(BUILDER.spec.prompt_of(tier).render(fields, nonce=nonce))


# Text that frozen lines escape, that only looks blank or like a directive, and that has no need of any care.
TEXTS = (
    ENCODABLE | st.text(st.sampled_from('a %s"\\\n\t\x7f\u00a0\u3000é🎁{}')) | st.just("steel kettle, 1.7 l")
)
FROZEN = st.fixed_dictionaries({"title": st.none() | TEXTS, "description": st.none() | TEXTS})
PLAIN = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True).map(RowKey)


@given(
    st.lists(
        st.tuples(PLAIN | KEYS, FROZEN, st.integers(0, 2), st.none() | st.just(Reason.OUTPUT_RULE)),
        max_size=8,
    ),
    NONCES,
    st.booleans(),
)
def test_many_rows_are_encoded_sized_and_named_as_one_by_one(
    records: list[tuple[RowKey, dict[str, str | None], int, Reason | None]], nonce: Nonce, opaque: bool
) -> None:
    """Spliced out of its frozen line or written anew, a row's request is the same bytes, of the same size and id."""
    spec = _spec().evolve(prompt=Prompt("100 %s of {title}: {description} {title}", missing='"(none)" %'))
    builder = RequestBuilder(spec, schema={"type": "object", "title": "%s %b %%"}, opaque=opaque)
    rows = [
        RowView(
            RowId(n), key, RowState.PENDING, reason, tier, 1, 0, builder.text_size(fields), None, None, 0, 0,
            FrozenFields(source_line(n, key, fields)), usage=Usage(), detail="too long",
        )
        for n, (key, fields, tier, reason) in enumerate(records)
    ]  # fmt: skip
    read = [row._replace(fields=fields) for row, (_, fields, _, _) in zip(rows, records, strict=True)]
    assert builder.encode_all(rows, nonce) == [builder.encode(row, nonce) for row in read]
    assert builder.sizes(rows) == [len(request) for request in builder.encode_all(read, nonce)]
    assert builder.custom_ids([row.key for row in rows], nonce) == [
        builder.custom_id(row.key, nonce) for row in rows
    ]


TIDY = st.sampled_from(
    ["Kettle", 'a 12" pan\\', "x\n\\n y", "~", '}],[1,"', "é", " blank", "", "\\", '"', "\u3000"]
)


@given(
    st.lists(
        st.tuples(
            PLAIN | KEYS, st.fixed_dictionaries({"title": st.none() | TIDY, "description": TIDY | TEXTS})
        )
    ),
    st.integers(0, 2),
    NONCES,
    st.booleans(),
)
@example(
    [(RowKey(f"K{n}"), {"title": 'a 12" pan\\', "description": "Kettle"}) for n in range(3)],
    0,
    "abcdefgh",
    False,
)
def test_rows_that_stand_alike_are_encoded_sized_and_named_as_one_by_one(
    records: list[tuple[RowKey, dict[str, str | None]]], tier: int, nonce: Nonce, opaque: bool
) -> None:
    """Read as columns, rows have the requests, sizes and custom ids that they have one by one."""
    if not records:
        return
    spec = _spec().evolve(prompt=Prompt("100 %s of {title}: {description} {title}", missing='"(none)" %'))
    builder = RequestBuilder(spec, schema={"type": "object", "title": "%s %b %%"}, opaque=opaque)
    rows = AlikeRows(
        ids=range(len(records)),
        keys=[key for key, _ in records],
        sizes=[builder.text_size(fields) for _, fields in records],
        lines=[source_line(n, key, fields) for n, (key, fields) in enumerate(records)],
        stands=(RowState.PENDING, None, tier, 0, 0, None, None, 0, 0),
    )
    alone = [builder.encode(row, nonce) for row in rows]
    assert builder.encode_joined(rows, nonce) == b",".join(alone)
    assert builder.sizes(rows) == list(map(len, alone))
    assert builder.custom_ids(rows.keys, nonce) == [builder.custom_id(key, nonce) for key in rows.keys]


def test_what_needs_no_reading_is_spliced() -> None:
    """A record of plain text under a plain key is sent without being parsed; one with a blank field is parsed."""
    builder = RequestBuilder(_spec(), schema={"type": "object"})
    plain, blank = (
        FrozenFields(source_line(n, RowKey("A-1"), {"title": title, "description": 'a "b" c'}))
        for n, title in enumerate(["Kettle", " "])
    )
    rows = [
        RowView(RowId(n), RowKey("A-1"), RowState.PENDING, None, 0, 0, 0, 9, None, None, 0, 0, fields)
        for n, fields in enumerate([blank, plain])
    ]
    builder.encode_all(rows, Nonce("abcdefgh"))
    assert (blank.is_read, plain.is_read) == (True, False)


@given(FIELDS, NONCES)
def test_a_request_is_what_the_standard_library_would_write(
    fields: dict[str, str | None], nonce: Nonce
) -> None:
    """Gluing pre-encoded parts together changes nothing of the JSON."""
    body = BUILDER.build({"sku": "A-1", **fields}, nonce=nonce).body
    assert json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode() == body
