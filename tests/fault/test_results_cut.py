"""A results file that breaks off, at every byte, over a real connection with the real SDK."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from hostile import HostileServer, http, say
from rig import Rig

from batchkit.states import BatchState, RowState

STEP = int(os.environ.get("BATCHKIT_SWEEP_STEP", "100"))
"""CI takes every so-manieth byte; `nox -s fault` takes all."""
ROWS = 2


def remote(status: str, **counts: int) -> bytes:
    whole: dict[str, Any] = {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": status,
        "request_counts": {
            **dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0),
            **counts,
        },
        "created_at": "2026-11-22T10:00:00Z",
        "expires_at": "2026-11-23T10:00:00Z",
        "ended_at": None,
    }
    return http(200, json.dumps(whole).encode())


def line(custom_id: str) -> bytes:
    message = {
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": '{"color":"red"}'}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 9, "output_tokens": 4},
    }
    result = {"type": "succeeded", "message": message}
    return json.dumps({"custom_id": custom_id, "result": result}, separators=(",", ":")).encode() + b"\n"


def loud(part: bytes, whole: bytes) -> bytes:
    """The declared length is that of the whole file."""
    return http(200, part, length=len(whole), kind="application/x-jsonl")


def silent(part: bytes, whole: bytes) -> bytes:
    """No length: where the connection ends, the file ends."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/x-jsonl\r\nconnection: close\r\n\r\n" + part


def chunked(part: bytes, whole: bytes) -> bytes:
    """One chunk that is complete, and no last one."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-jsonl\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + (b"%x\r\n" % len(part) + part + b"\r\n" if part else b"")


@pytest.mark.parametrize("shape", [loud, silent, chunked])
def test_a_file_cut_at_any_byte_is_read_again(shape: Any, swept: Callable[[int, int, str], None]) -> None:
    """Wherever it breaks off, loudly or not, no row is called missing; the next reading has all, each row once."""
    cuts = 0
    with HostileServer(say(remote("in_progress", processing=ROWS))) as server:
        client = anthropic.Anthropic(api_key="k", base_url=server.url)
        at = 0
        while True:
            rig = Rig(ROWS, client=client)
            sent = rig.send().batch
            assert sent is not None
            requests = json.loads(server.bodies[-1])["requests"]
            whole = b"".join(line(request["custom_id"]) for request in requests)
            if at >= len(whole):
                break
            server.files = {
                "/results": shape(whole[:at], whole),
                "/msgbatch_1": remote("ended", succeeded=ROWS),
            }
            assert rig.end(sent.id).state is BatchState.ENDED
            cut = rig.collect(sent.id)
            # The last line feed alone may be missing: then every line is there.
            assert cut.complete == (at == len(whole) - 1 and shape is silent), at
            assert rig.tally.in_state(RowState.SUBMITTED) + rig.tally.in_state(RowState.SUCCEEDED) == ROWS
            server.files["/results"] = http(200, whole, kind="application/x-jsonl")
            if not cut.complete:
                rig.clock.sleep(900)
                assert rig.collect(sent.id).complete, at
            assert rig.tally.in_state(RowState.SUCCEEDED) == ROWS
            assert [row.key for row in rig.rows()] == ["S0000", "S0001"]
            assert len(rig.store.results(rig.run.id, limit=10)) == ROWS
            rig.store.close()
            cuts += 1
            at += STEP if at + STEP < len(whole) or at == len(whole) - 1 else len(whole) - 1 - at
    swept(cuts, len(whole), f"bytes of a results file, {shape.__name__}")
    assert server.posts == cuts + 1
