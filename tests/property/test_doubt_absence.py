"""Absence is never concluded too early, whatever the list does."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from batchkit.doubt import (
    Absent,
    Finding,
    Held,
    Known,
    Open,
    Proved,
    Reading,
    Trail,
    Wait,
    look,
    observe,
    resolve,
)
from batchkit.ids import BatchId, Nonce, RemoteId, RunId
from batchkit.model import Batch, Head, Place
from batchkit.remote import RemoteBatch
from batchkit.states import BatchState

T0 = 1_000_000.0
GRACE = 1_800.0
PLACE = Place(base_url="https://api.example", organization="org", workspace="ws")
HEAD = RemoteBatch(id=RemoteId("head"), status="ended", counts={"succeeded": 5}, created_at=T0 - 60)
OLD = RemoteBatch(id=RemoteId("old"), status="ended", counts={"succeeded": 5}, created_at=T0 - 900)
BATCH = Batch(
    id=BatchId(1),
    run=RunId(1),
    state=BatchState.DOUBTFUL,
    nonce=Nonce("aaaaaaaa"),
    count=100,
    size=1,
    place=PLACE,
    head=Head(remote_id=HEAD.id, created_at=HEAD.created_at),
    reserved=1,
    deadline=T0,
    created_at=T0,
)

steps = st.tuples(
    st.floats(-50.0, 1_500.0),
    st.sampled_from(
        ["clean", "clean", "clean", "shallow", "elsewhere", "cached", "undated", "none", "mixed"]
    ),
    st.sets(st.sampled_from(["a", "b"])),
    st.sampled_from([None, *Finding]),
)


@given(st.lists(steps, max_size=14))
def test_absence_is_covered_by_an_unbroken_series_of_clean_readings(
    story: list[tuple[float, str, set[str], Finding | None]],
) -> None:
    """Absent means: the last readings all counted, span the grace, are three at least, and no suspect is open."""
    trail, known = Trail(since=T0), Known(nonces=frozenset({BATCH.nonce}))
    date, now = T0, T0
    series: list[float] = []
    newest = -1.0
    findings: dict[str, Finding] = {}
    for moved, kind, shown, found in story:
        date, now = date + moved, now + 60.0
        items = tuple(
            RemoteBatch(id=RemoteId(name), status="in_progress", counts={"processing": 100}, created_at=T0)
            for name in sorted(shown)
        )
        one: Reading | None = Reading(date=date, place=PLACE, items=(*items, HEAD, OLD), complete=False)
        assert one is not None
        if kind == "none":
            one = None
        elif kind == "shallow":
            one = attrs.evolve(one, items=(*items, HEAD))
        elif kind == "elsewhere":
            one = attrs.evolve(one, place=attrs.evolve(PLACE, workspace="other"))
        elif kind == "cached":
            one = attrs.evolve(one, cached=True)
        elif kind == "undated":
            one = attrs.evolve(one, date=None)
        elif kind == "mixed":
            one = attrs.evolve(one, coherent=False)
        trail = observe(BATCH, trail, one, known, now=now)
        # The oracle keeps the dates of the readings that count, and of every suspect what was last found.
        if kind == "clean" and date >= newest:
            newest = date
            series.append(date)
        elif kind != "none":
            series = []
        if kind not in {"none", "elsewhere"}:
            for name in shown:
                findings.setdefault(name, Finding.RUNNING)
        if found is not None:
            for name in findings:
                findings[name] = found
                trail = look(trail, RemoteId(name), found, at=date)
        end = resolve(BATCH, trail, known, now=now, grace=GRACE)
        if isinstance(end, Absent):
            assert len(series) >= 3
            assert series[-1] - series[0] >= GRACE
            assert not {Finding.RUNNING, Finding.UNREADABLE, Finding.MISSING, Finding.OURS} & set(
                findings.values()
            )
        if Finding.OURS in findings.values():
            assert isinstance(end, Proved)
        assert isinstance(end, Absent | Proved | Held | Open | Wait)
        assert Trail.from_json(trail.to_json()) == trail
