"""The guarded body: what stops it before its last chunk stops the request."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.body import BodyStopped, GuardedBody


def body_of(
    items: list[bytes],
    *,
    chunk: int = 8,
    length: int | None = None,
    fail_at: int | None = None,
    fenced: bool = True,
) -> tuple[GuardedBody, list[str]]:
    calls: list[str] = []

    def check() -> None:
        calls.append("check")
        if fail_at is not None and calls.count("check") == fail_at:
            raise BodyStopped("asked to stop")

    def fence() -> None:
        calls.append("fence")
        if not fenced:
            raise BodyStopped("the lease was lost")

    size = GuardedBody.length_of(map(len, items)) if length is None else length
    return GuardedBody(lambda: items, size, check=check, fence=fence, chunk=chunk), calls


@given(
    st.lists(st.integers(0, 10**6).map(lambda n: json.dumps({"n": n}).encode()), max_size=20),
    st.integers(1, 60),
)
def test_the_body_is_the_requests_and_its_declared_length(items: list[bytes], chunk: int) -> None:
    """Whatever the chunk size, the chunks together are the JSON of all requests, of the declared length."""
    body, _ = body_of(items, chunk=chunk)
    whole = b"".join(body)
    assert json.loads(whole) == {"requests": [json.loads(item) for item in items]}
    assert len(whole) == len(body)
    assert body.handed_over


def test_every_chunk_is_checked_and_only_the_last_is_fenced() -> None:
    """A check comes before each chunk, and the fence after the check of the last one."""
    body, calls = body_of([b'{"n":1}'] * 4, chunk=1)
    chunks = list(body)
    assert calls == ["check"] * len(chunks) + ["fence"]


def test_the_fence_comes_after_all_other_chunks_left() -> None:
    """When the fence is asked, everything but the last chunk has been given away."""
    given_away: list[bytes] = []
    body, calls = body_of([b'{"n":1}'] * 4, chunk=1)
    for chunk in body:
        if "fence" not in calls:
            given_away.append(chunk)
    assert len(b"".join(given_away)) < len(body)
    assert len(given_away) == calls.count("check") - 1


@pytest.mark.parametrize("fail_at", [1, 2, 3, 4, 5])
def test_a_failed_check_leaves_the_length_unmet(fail_at: int) -> None:
    """Stopping before any chunk, the last one included, gives fewer bytes than declared and hands nothing over."""
    body, calls = body_of([b'{"n":1}'] * 4, chunk=1, fail_at=fail_at)
    sent: list[bytes] = []
    with pytest.raises(BodyStopped, match="asked to stop"):
        sent.extend(body)
    assert sum(map(len, sent)) < len(body)
    assert not body.handed_over
    assert "fence" not in calls


def test_a_lost_fence_stops_the_last_chunk() -> None:
    """Who lost the lease never hands over the last chunk, whatever the local checks say."""
    body, _ = body_of([b'{"n":1}'] * 4, chunk=1, fenced=False)
    with pytest.raises(BodyStopped, match="lost"):
        list(body)
    assert not body.handed_over


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_wrong_length_is_never_completed(wrong: int) -> None:
    """A body whose bytes are not those declared stops itself: it was planned for other rows than it has."""
    items = [b'{"n":1}'] * 3
    body, calls = body_of(items, length=GuardedBody.length_of(map(len, items)) + wrong)
    with pytest.raises(BodyStopped, match="declared"):
        list(body)
    assert "fence" not in calls
    assert not body.handed_over


def test_a_body_is_sent_once() -> None:
    """After the last chunk left, a transport or middleware that starts over gets an error and no byte."""
    body, _ = body_of([b'{"n":1}'])
    list(body)
    with pytest.raises(BodyStopped, match="already"):
        next(iter(body))


def test_two_iterations_side_by_side_complete_once() -> None:
    """Of two iterations under way at the same time only one hands over the last chunk."""
    body, _ = body_of([b'{"n":1}'] * 4, chunk=1)
    one, two = iter(body), iter(body)
    next(one)
    next(two)
    list(one)
    with pytest.raises(BodyStopped, match="already"):
        list(two)
