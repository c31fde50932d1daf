"""The verifier that is handed over: passes what is right, and fails whatever was changed since."""

from __future__ import annotations

import ast
import gzip
import hashlib
import http.server
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from rig import Label, answers
from verifying import verify

from batchkit import Contract, Prompt, Spec, SQLiteTarget, Tier, Workflow
from batchkit.report import verifier
from batchkit.testing import Answer, SimulatedAPI, serve, simulated_client

SPEC = Spec(
    Contract(Label),
    Prompt("Word: {word}"),
    key="sku",
    metadata=["note"],
    tiers=[Tier("claude-haiku-4-5", max_tokens=300)],
)
KEY = {**os.environ, "ANTHROPIC_API_KEY": "the-key"}


@attrs.frozen
class Handed:
    """A run's receipt folder and the file it was started from."""

    folder: Path
    source: Path
    api: SimulatedAPI

    def verify(self, *arguments: str | Path, env: dict[str, str] | None = None) -> tuple[int, str]:
        return verify(self.folder, *arguments, env=env)

    def receipt(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "receipt.json").read_text()))

    def rows(self) -> list[list[Any]]:
        lines = gzip.decompress((self.folder / "rows.jsonl.gz").read_bytes()).splitlines()
        return [json.loads(line) for line in lines]

    def write_receipt(self, content: dict[str, Any]) -> None:
        (self.folder / "receipt.json").write_text(json.dumps(content))

    def write_rows(self, rows: list[list[Any]], *, cover_up: bool) -> None:
        """Replace the rows; ``cover_up`` makes the receipt name their new digest."""
        body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        (self.folder / "rows.jsonl.gz").write_bytes(gzip.compress(body))
        if cover_up:
            self.write_receipt({**self.receipt(), "rows_sha256": hashlib.sha256(body).hexdigest()})


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Handed:
    """A finished run of CSV rows, with failures, a damaged record, a repeat, a promotion and two receipts."""
    home = tmp_path_factory.mktemp("original")
    source = home / "rows.csv"
    lines = [f"S{n:04},word{n},n{n}" for n in range(1_040)]
    lines[7] = "S0007,odd,\xff"
    lines[9] = "S0009,too,many,cells"
    lines[11] = "S0000,word0,n0"
    lines[13] = ",keyless,n"
    source.write_bytes("\n".join(["sku,word,note", *lines, ""]).encode("latin-1"))
    model = answers(
        {"word3": Answer(text="no"), "word5": Answer(kind="errored", error_type="overloaded_error")}
    )
    api = SimulatedAPI(model)
    flow = Workflow(SPEC, store=home / "e.db", client=simulated_client(api=api), max_batch_rows=400)
    run = flow.start("catalog", source, unlocked=True, on_duplicate="first")
    assert run.wait(progress="none").done
    import sqlite3

    with sqlite3.connect(home / "catalog.db") as catalog:
        catalog.execute("CREATE TABLE products (sku TEXT PRIMARY KEY, color TEXT)")
        catalog.executemany("INSERT INTO products (sku) VALUES (?)", [(f"S{n:04}",) for n in range(1_000)])
    catalog.close()
    run.promote(SQLiteTarget(home / "catalog.db", "products", "sku"))
    run.reconcile().write(home / "receipt")
    return Handed(home / "receipt", source, api)


@pytest.fixture
def handed(original: Handed, tmp_path: Path) -> Handed:
    """A copy of it, to be tampered with."""
    shutil.copytree(original.folder, tmp_path / "receipt")
    shutil.copy(original.source, tmp_path / "rows.csv")
    return Handed(tmp_path / "receipt", tmp_path / "rows.csv", original.api)


def failed(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("FAILED")]


class TestProgram:
    def test_is_short_and_needs_nothing(self) -> None:
        """It has fewer than 100 lines, imports the standard library only, and parses as Python 3.8."""
        program = verifier().decode("ascii")
        tree = ast.parse(program, feature_version=(3, 8))
        modules = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        }
        assert len(program.splitlines()) < 100
        assert modules <= set(sys.stdlib_module_names)
        assert max(map(len, program.splitlines())) <= 120

    def test_passes_what_is_right(self, handed: Handed) -> None:
        """An untouched receipt with its untouched source is verified, and every line says ok."""
        code, said = handed.verify("--source", handed.source)
        assert (code, failed(said)) == (0, [])
        assert said.endswith("VERIFIED\n")
        assert "ok      receipt-1.json names the one before it" in said
        assert "ok      rows.csv has 1,040 records, the receipt counts 1,040" in said
        assert "ok      promotion 1" in said

    def test_says_that_a_run_is_unfinished(self, tmp_path: Path) -> None:
        """Where records are open everything may be right so far; the last line and the exit code tell that apart."""
        rows = [{"sku": f"S{n}", "word": f"w{n}", "note": ""} for n in range(3)]
        flow = Workflow(SPEC, store=":memory:", client=simulated_client(api=SimulatedAPI(answers({}))))
        run = flow.start("r", rows, unlocked=True)
        run.reconcile().write(tmp_path)
        code, said = verify(tmp_path)
        assert (code, failed(said)) == (75, [])
        assert said.endswith("VERIFIED, but the run is UNFINISHED: 3 of 3 records are open\n")
        run.wait(progress="none")
        run.reconcile().write(tmp_path)
        assert verify(tmp_path)[0] == 0

    def test_says_what_it_could_not_compare(self, handed: Handed) -> None:
        """Without the source it checks the receipt alone, and says so."""
        code, said = handed.verify()
        assert code == 0
        assert "not compared with the source (rows.csv)" in said

    def test_says_that_rows_came_from_no_file(self, tmp_path: Path) -> None:
        """Rows of a function cannot be read again: the receipt alone is checked, and it says so."""
        flow = Workflow(SPEC, store=":memory:", client=simulated_client())
        run = flow.start("r", lambda: [{"sku": "1", "word": "w", "note": None}], unlocked=True)
        run.reconcile().write(tmp_path)
        code, said = verify(tmp_path)
        assert (code, failed(said)) == (75, [])
        assert "not compared with the source (callable)" in said

    def test_takes_a_folder(self, handed: Handed, tmp_path: Path) -> None:
        """The program may lie elsewhere than the receipt it checks."""
        shutil.move(handed.folder / "verify.py", tmp_path / "verify.py")
        assert verify(tmp_path, handed.folder, "--source", handed.source)[0] == 0


ROW_CHANGES: dict[str, tuple[Callable[[list[list[Any]]], list[list[Any]]], str]] = {
    "outcome": (lambda rows: [[*rows[0][:2], "errored", *rows[0][3:]], *rows[1:]], "rows: "),
    "reason": (
        lambda rows: [
            row if row[3] != "api.overloaded" else [*row[:3], "api.server", *row[4:]] for row in rows
        ],
        "lines of reasons",
    ),
    "tier": (
        lambda rows: [row if row[3] != "api.overloaded" else [*row[:4], 1, *row[5:]] for row in rows],
        "lines of reasons",
    ),
    "removed": (lambda rows: rows[:-1], "one line each"),
    "added": (lambda rows: [*rows, [len(rows), "x", "succeeded", None, 0, 1, None]], "one line each"),
    "swapped": (lambda rows: [rows[1], rows[0], *rows[2:]], "one line each"),
    "key twice": (lambda rows: [rows[0], [1, "S0000", *rows[1][2:]], *rows[2:]], "keys stand once"),
}


@pytest.mark.parametrize("change", ROW_CHANGES)
@pytest.mark.parametrize("cover_up", [False, True])
def test_a_changed_row_is_found(handed: Handed, change: str, cover_up: bool) -> None:
    """One row changed, added, removed or moved fails, also where the receipt was made to name the new digest."""
    alter, what = ROW_CHANGES[change]
    handed.write_rows(alter(handed.rows()), cover_up=cover_up)
    code, said = handed.verify()
    assert code == 1
    assert any(what in line for line in failed(said))
    assert any("rows.jsonl.gz" in line for line in failed(said)) is not cover_up
    assert said.rstrip().endswith("checks failed")


def test_a_key_that_is_not_the_records_is_found(handed: Handed) -> None:
    """A row that was given another key does not have its record's key."""
    rows = handed.rows()
    handed.write_rows([[0, "X", *rows[0][2:]], *rows[1:]], cover_up=True)
    assert handed.verify()[0] == 0
    code, said = handed.verify("--source", handed.source)
    assert code == 1
    assert failed(said) == ["FAILED  the rows have the keys of the source, but 1 do not"]


SOURCE_CHANGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "cell": (lambda lines: [*lines[:3], lines[3] + b"!", *lines[4:]], "records 0 and on"),
    "late cell": (lambda lines: [*lines[:1001], lines[1001] + b"!", *lines[1002:]], "records 1,000 and on"),
    "removed": (lambda lines: [*lines[:600], *lines[601:]], "1,039 records"),
    "last removed": (lambda lines: lines[:-1], "1,039 records"),
    "added": (lambda lines: [*lines, b"new,word,n"], "1,041 records"),
    "swapped": (lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]], "records 0 and on"),
    "damage mended": (lambda lines: [*lines[:8], b"S0007,odd,y", *lines[9:]], "records 0 and on"),
    "damage mended by fewer cells": (
        lambda lines: [*lines[:10], b"S0009,two,many", *lines[11:]],
        "records 0 and on",
    ),
    "column renamed": (lambda lines: [b"sku,word,other", *lines[1:]], "records 0 and on"),
    "empty": (lambda lines: lines[:1], "0 records"),
}


@pytest.mark.parametrize("change", SOURCE_CHANGES)
def test_a_changed_source_is_found(handed: Handed, change: str) -> None:
    """One cell or record changed, removed, added or moved in the source fails, and it says about where."""
    alter, where = SOURCE_CHANGES[change]
    handed.source.write_bytes(b"\n".join(alter(handed.source.read_bytes().splitlines())) + b"\n")
    code, said = handed.verify("--source", handed.source)
    assert code == 1
    assert any(where in line for line in failed(said)), said


RECEIPT_CHANGES: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "bucket": (("equations", "rows", "buckets", "succeeded"), 1, "rows: "),
    "bucket invented": (("equations", "rows", "buckets", "lost"), 1, "rows: "),
    "sent": (("equations", "submissions", "sent"), 5, "submissions"),
    "lines": (("equations", "submissions", "lines"), 5, "submissions"),
    "missing": (("equations", "submissions", "missing"), 5, "submissions"),
    "in flight": (("equations", "submissions", "in_flight"), 5, "submissions"),
    "usage": (("equations", "money", "usage"), 5, "money"),
    "applied": (("equations", "money", "applied"), 5, "money"),
    "unused": (("equations", "money", "unused"), 5, "money"),
    "spent": (("batches", 0, "spent_nano_usd"), 5, "money"),
    "staged": (("equations", "promotions", 0, "staged"), 5, "promotion 1"),
    "written": (("equations", "promotions", 0, "written"), 5, "promotion 1"),
    "held back": (("equations", "promotions", 0, "held_back"), 5, "promotion 1"),
    "reason": (("reasons", 0, "rows"), 5_000, "lines of reasons"),
    "page": (("source", "pages", 0), "0" * 64, "digest of all pages"),
    "digest": (("source", "digest"), "0" * 64, "digest of all pages"),
    "records": (("source", "rows"), 1_039, "one line each"),
    "number": (("number",), 3, "receipt.json names the one before it"),
    "previous": (("previous",), "0" * 64, "receipt.json names the one before it"),
    "rows": (("rows_sha256",), "0" * 64, "rows.jsonl.gz"),
}


@pytest.mark.parametrize("change", RECEIPT_CHANGES)
def test_a_changed_sum_is_found(handed: Handed, change: str) -> None:
    """Any one figure of the receipt that is another one fails, and the check that fails is named."""
    path, value, what = RECEIPT_CHANGES[change]
    content = handed.receipt()
    at: Any = content
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    handed.write_receipt(content)
    code, said = handed.verify()
    assert code == 1
    assert any(what in line for line in failed(said)), said


def test_a_broken_chain_is_found(handed: Handed) -> None:
    """An earlier receipt that was changed, or taken away, breaks the chain."""
    first = handed.folder / "receipt-1.json"
    body = first.read_bytes()
    first.write_bytes(body.replace(b'"unlocked": true', b'"unlocked": false'))
    code, said = handed.verify()
    assert (code, failed(said)) == (1, ["FAILED  receipt.json names the one before it"])
    first.unlink()
    code, said = handed.verify()
    assert (code, failed(said)) == (1, ["FAILED  receipt.json names the one before it"])


def test_a_receipt_of_a_later_form_is_not_verified(handed: Handed) -> None:
    """A form that this check does not know is named before anything is said to be right."""
    handed.write_receipt({**handed.receipt(), "format": "batchkit-receipt-2"})
    code, said = handed.verify()
    assert (code, "ok      receipt.json" in said) == (1, False)
    assert "newer form; run the verify.py beside" in said


class TestResults:
    def test_are_downloaded_and_hashed_again(self, handed: Handed) -> None:
        """With a key the provider's result files are fetched again and have the digests of the receipt."""
        with serve(handed.api) as server:
            code, said = handed.verify("--results", server.url, env=KEY)
        assert code == 0, said
        assert said.count("downloaded again") == len(
            [b for b in handed.receipt()["batches"] if b["results_sha256"]]
        )
        assert said.count("downloaded again") >= 3

    def test_that_differ_fail(self, handed: Handed) -> None:
        """A result file of another digest than the receipt's fails, and its batch is named."""
        content = handed.receipt()
        content["batches"][1]["results_sha256"] = "0" * 64
        handed.write_receipt(content)
        with serve(handed.api) as server:
            code, said = handed.verify("--results", server.url, env=KEY)
        assert code == 1
        assert failed(said)[0].startswith(
            f"FAILED  results of batch {content['batches'][1]['id']}, downloaded again"
        )

    def test_that_cannot_be_had_fail(self, handed: Handed) -> None:
        """Where nobody answers, nothing is verified."""
        with serve(handed.api) as server:
            gone = server.url
        code, said = handed.verify("--results", gone, env=KEY)
        assert code == 1
        assert all("downloaded again" in line for line in failed(said))

    def test_a_redirect_does_not_get_the_key(self, handed: Handed) -> None:
        """The key is sent to the address that was named and to nobody it points to."""
        with _listening("") as (elsewhere, heard), _listening(elsewhere) as (first, asked):
            code, _ = handed.verify("--results", first, env=KEY)
        assert code == 1
        assert {headers.get("x-api-key") for headers in asked} == {"the-key"}
        assert {headers.get("x-api-key") for headers in heard} == {None}


class _listening:  # noqa: N801 - reads as a function
    """A server that answers nothing, or points elsewhere, and remembers what it was sent."""

    def __init__(self, elsewhere: str) -> None:
        self.heard: list[dict[str, str]] = []
        heard = self.heard

        class Exchange(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(307 if elsewhere else 200)
                if elsewhere:
                    self.send_header("location", elsewhere + self.path)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> tuple[str, list[dict[str, str]]]:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}", self.heard

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
