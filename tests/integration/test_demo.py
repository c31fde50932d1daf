"""The demo: its sum, its summary, what a kill leaves, and what it says without a key."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from batchkit import runs
from batchkit.cli import main
from batchkit.demo import shop, week_later
from batchkit.demo.first_day import RUN
from batchkit.demo.folder import Folder, Options
from batchkit.demo.stand_in import StandIn, stand_in
from batchkit.errors import ProviderError, UsageError
from batchkit.testing.catalog import generate

ROWS = 400


def demo(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "batchkit", "demo", *argv],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """A demo that ran once, in this process so that its lines count as covered: folder, output, summary."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch, (folder / "printed.txt").open("w", encoding="utf-8") as out:
        patch.setattr(sys, "stdout", out)
        code = main(
            [
                "demo",
                "--rows",
                str(ROWS),
                "--workdir",
                str(folder / "work"),
                "--json",
                str(folder / "told.json"),
            ]
        )
    assert code == 0
    return (
        folder / "work",
        (folder / "printed.txt").read_text(encoding="utf-8"),
        json.loads((folder / "told.json").read_bytes()),
    )


def test_the_summary_is_whole(told: tuple[Path, str, dict[str, Any]]) -> None:
    """Every record is in one bucket, the receipt is verified, nothing is paid twice, the rollback is identical."""
    _, _, summary = told
    assert (summary["rows"], sum(summary["outcomes"].values())) == (ROWS, ROWS)
    assert summary["outcomes"]["open"] == 0
    assert summary["outcomes"]["quarantined"] == sum(summary["quarantined_because"].values())
    assert [summary[name] for name in ("balanced", "receipt_verified", "rolled_back_identical")] == [True] * 3
    assert (summary["double_paid"], summary["recorded_answers"] > ROWS) == (0, True)
    assert (summary["tiers"], summary["batches"] > 3) == (2, True)
    assert summary["promoted"] == summary["outcomes"]["succeeded"]
    # A correction draws new nonces, so now and then one of its answers is off the contract and not promoted.
    assert summary["slice_rows"] >= summary["corrected"] > 0


def test_every_chapter_is_told(told: tuple[Path, str, dict[str, Any]]) -> None:
    """The refused gate, the fixed rows, the equation, the finding by hand or by audit, and the rollback are printed."""
    _, printed, _ = told
    for text in (
        "GateNotMet: rows",
        "v1 | v2:",
        "lock ",
        "rows wait for a person",
        f"= {ROWS} of {ROWS}",
        "VERIFIED",
        "promotion 1 of catalog",
        "prompt.examples +2",
        "rolled back 2",
        "byte for byte",
        "handoff/: ",
    ):
        assert text in printed, text


def test_a_demo_that_is_done_is_only_told_again(
    told: tuple[Path, str, dict[str, Any]], tmp_path: Path
) -> None:
    """Started again on its folder it sends nothing, promotes nothing, and gives the same summary."""
    folder, _, first = told
    again = demo("--rows", str(ROWS), "--workdir", str(folder), "--json", str(tmp_path / "again.json"))
    assert again.returncode == 0, again.stdout + again.stderr
    second = json.loads((tmp_path / "again.json").read_bytes())
    same = {name for name in first if name not in {"seconds"}}
    assert {name: second[name] for name in same} == {name: first[name] for name in same}
    assert "GateNotMet: rows" in again.stdout


def test_the_server_ends_with_the_demo(told: tuple[Path, str, dict[str, Any]]) -> None:
    """A demo that ended leaves no process behind."""
    with pytest.raises(OSError, match="refused"):
        StandIn(Folder(told[0]).notes["port"]).state()


def test_a_folder_is_for_one_demo(
    told: tuple[Path, str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Other settings on the same folder are refused by name, and nothing is changed."""
    before = (told[0] / "demo.json").read_bytes()
    assert main(["demo", "--rows", "7", "--workdir", str(told[0])]) == 1
    assert f"rows {ROWS}" in capsys.readouterr().err
    assert (told[0] / "demo.json").read_bytes() == before


def test_a_killed_demo_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed in the middle of its run, and the server too, it ends with a whole sum and nothing paid twice."""
    folder, summary = tmp_path / "work", tmp_path / "told.json"
    command = [sys.executable, "-m", "batchkit", "demo", "--rows", "300", "--workdir", str(folder)]
    with (tmp_path / "log").open("wb") as log:
        first = subprocess.Popen(command, stdout=log, stderr=log)
        while not (folder / "enrich.db").exists() or RUN not in [
            run.name for run in runs(folder / "enrich.db")
        ]:
            assert first.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        first.kill()
        first.wait()
    served = StandIn(Folder(folder).notes["port"])
    os.kill(int(served.state()["pid"]), signal.SIGKILL)
    again = demo("--rows", "300", "--workdir", str(folder), "--json", str(summary))
    assert again.returncode == 0, again.stdout + again.stderr
    told = json.loads(summary.read_bytes())
    assert (sum(told["outcomes"].values()), told["double_paid"]) == (300, 0)
    assert told["balanced"]
    assert told["receipt_verified"]


def test_ones_own_file_is_counted_to_the_last_record(tmp_path: Path) -> None:
    """With --data repeated skus, empty rows and rows without a sku are counted, and the summary says why."""
    source = tmp_path / "own.csv"
    rows = [row for row in generate(120, 8) if row["sku"]]
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["sku", "title", "description", "source_category", "lang"])
        writer.writeheader()
        writer.writerows(rows)
        writer.writerow({**rows[0], "title": "another text"})
        writer.writerow({"sku": "only-a-sku"})
        writer.writerow({"sku": "", "title": "no sku"})
        writer.writerow(dict.fromkeys(rows[0], ""))
    summary = tmp_path / "told.json"
    done = demo("--data", str(source), "--json", str(summary))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(summary.read_bytes())
    assert told["rows"] == len(rows) + 4
    assert sum(told["outcomes"].values()) == told["rows"]
    why = {one["that"].split(":")[0]: one["records"] for one in told["set_aside"]}
    assert why["have no sku"] == 2
    assert why["repeat a sku"] >= 1
    assert why["have no text at all"] >= 1


def test_without_a_key_the_real_api_is_only_priced(tmp_path: Path) -> None:
    """--api without a key sends nothing, says what it would send and what that costs at most, and exits with 3."""
    done = demo("--api", "--rows", "20", "--workdir", str(tmp_path / "work"))
    assert done.returncode == 3
    assert "20 requests would go to claude-haiku-4-5 first, at most $" in done.stderr
    assert "custom" not in done.stderr
    assert "sku_" in done.stdout
    assert runs(tmp_path / "work" / "enrich.db") == []


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--data of a missing file is a mistake of the caller."""
    assert main(["demo", "--data", str(tmp_path / "nothing.csv")]) == 1
    assert "there is no file" in capsys.readouterr().err


def test_a_port_that_somebody_else_took_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the noted port answers as something else, the demo gives up with a message and a next step."""
    monkeypatch.setattr("batchkit.demo.stand_in._PATIENCE", 0.5)
    folder = Folder(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        folder.note(port=taken.getsockname()[1])
        with pytest.raises(ProviderError, match="same --workdir"), stand_in(folder, 0):
            pass


def test_a_source_with_broken_text_makes_a_catalog_all_the_same(tmp_path: Path) -> None:
    """Records with broken characters stand in the catalog with replacement characters."""
    source = tmp_path / "broken.csv"
    source.write_bytes(
        b"sku,title,description,source_category,lang\nA,caf\xe9,x,,\n ,blank key,x,,\nA,again,x,,\n"
    )
    assert shop.make_catalog(Folder(tmp_path), source) == 1
    assert shop.products(Folder(tmp_path), ["A", "B"])[0][0] == "A"


def test_a_catalog_without_adapters_has_nothing_to_correct() -> None:
    """Only texts and suppliers that speak of adapters are taken for adapters."""
    speaks = week_later._is_adapter
    assert speaks({"title": "Reiseadapter", "description": None, "source_category": None})
    assert speaks({"title": "x", "description": None, "source_category": "adpt"})
    assert not speaks({"title": "USB charger", "description": "20 W", "source_category": "Chargers"})


def test_options_are_noted_once(tmp_path: Path) -> None:
    """A folder keeps what it was begun with; a later start without --rows on the real API takes the small number."""
    assert Folder(tmp_path / "a").claim(Options(api=True)).rows == 200
    assert Folder(tmp_path / "b").claim(Options()).rows == 20_000
    with pytest.raises(UsageError, match="api True"):
        Folder(tmp_path / "a").claim(Options(rows=200))
