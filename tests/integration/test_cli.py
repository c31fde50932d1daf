"""The command line: what each verb prints, as text and as JSON, and the code it exits with."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest
from pg import url

from batchkit import Budget, EvalSet, SQLiteTarget, Workflow, attach, source
from batchkit.cli import main
from batchkit.demo.task import Attributes, second_spec
from batchkit.evalset import EvalRow
from batchkit.ids import Digest
from batchkit.model import DocKind, NewRun
from batchkit.storage import postgres_schema
from batchkit.storage.postgres import PostgresStore
from batchkit.storage.schema import VERSION
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing import simulated_client
from batchkit.testing.catalog import write_csv

ROWS = 120
SEEDS = itertools.count(1)
NASTY = "\x1b[31mred\x1b[0m \u202eevil\u202c"


@attrs.frozen
class Shop:
    """A folder with a store, a catalog, and the source they were made from."""

    root: Path

    @property
    def store(self) -> str:
        return str(self.root / "enrich.db")

    @property
    def rows(self) -> Path:
        return self.root / "rows.csv"

    @property
    def target(self) -> SQLiteTarget:
        return SQLiteTarget(self.root / "catalog.db", "products", "sku")

    def flow(self, **options: Any) -> Workflow[Attributes]:
        # A simulator of its own, whose batches are no other simulator's.
        client = simulated_client(seed=next(SEEDS))
        return Workflow(second_spec(), store=self.store, client=client, **options)

    def categories(self) -> list[tuple[str, str | None]]:
        with closing(sqlite3.connect(self.root / "catalog.db")) as db:
            return db.execute("SELECT sku, category FROM products ORDER BY sku").fetchall()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A run that is done and was promoted, and one that is open; made once, copied for every test."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    write_csv(shop.rows, ROWS, 4)
    with shop.rows.open("a", encoding="utf-8") as file:
        file.write(f'bad-1,"{NASTY}",x,,en\n')
    with closing(sqlite3.connect(shop.root / "catalog.db")) as db:
        db.execute("CREATE TABLE products (sku TEXT PRIMARY KEY, category TEXT, features TEXT, summary TEXT)")
        skus = {str(row["sku"]) for row in source.csv(shop.rows) if row["sku"]}
        db.executemany("INSERT INTO products (sku) VALUES (?)", [(sku,) for sku in sorted(skus)])
        db.commit()
    flow = shop.flow()
    done = flow.start("done", shop.rows, unlocked=True, on_duplicate="first")
    done.wait(progress="none")
    done.promote(shop.target)
    flow.start("open", shop.rows, unlocked=True, on_duplicate="first")
    with closing(sqlite3.connect(shop.store)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return shop


@pytest.fixture
def shop(made: Shop, tmp_path: Path) -> Shop:
    """The same store and catalog, to be changed."""
    for name in ("enrich.db", "catalog.db", "rows.csv"):
        (tmp_path / name).write_bytes((made.root / name).read_bytes())
    # A copied store must be confirmed before it sends; these tests may do that.
    SQLiteStore(str(tmp_path / "enrich.db")).confirm()
    return Shop(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command; give its exit code and what it printed."""

    def command(*argv: object) -> tuple[int, str]:
        code = main([str(arg) for arg in argv])
        printed = capsys.readouterr()
        return code, printed.out or printed.err

    return command


Run = Callable[..., tuple[int, str]]


# ---------------------------------------------------------------- looking


def test_runs_lists_the_runs_of_a_store(made: Shop, run: Run) -> None:
    """`runs` names every run, oldest first, as text and as JSON."""
    code, text = run("runs", made.store)
    assert (code, [line.split()[0] for line in text.splitlines()]) == (0, ["run", "done", "open"])
    code, document = run("runs", made.store, "--json")
    assert [(one["run"], one["rows"]) for one in json.loads(document)] == [
        ("done", ROWS + 1),
        ("open", ROWS + 1),
    ]


def test_status_exits_with_0_when_done_and_75_when_not_yet(made: Shop, run: Run) -> None:
    """`status` tells the equation, and its exit code is the run's."""
    code, text = run("status", made.store, "done")
    assert (code, f"= {ROWS + 1} rows ✓" in text) == (0, True)
    code, document = run("status", made.store, "open", "--json")
    assert (code, json.loads(document)["exit_code"]) == (75, 75)


def test_status_without_a_run_tells_of_every_open_one(made: Shop, run: Run) -> None:
    """`status STORE` shows the runs that are not closed and exits with the worst of their codes."""
    code, document = run("status", made.store, "--json")
    assert (code, [one["run"] for one in json.loads(document)]) == (75, ["open"])


def test_status_can_be_watched_until_a_run_is_done(
    shop: Shop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status --watch` looks again until the run is done, and exits with 0 then."""
    waits: list[float] = []

    def move_on(seconds: float) -> None:
        waits.append(seconds)
        shop.flow().resume("open").wait(progress="none")

    monkeypatch.setattr("time.sleep", move_on)
    code, text = run("status", shop.store, "open", "--watch", "5")
    assert (code, waits) == (0, [5.0])
    assert text.count("Run open") == 2


def test_rows_are_filtered_by_outcome_reason_tier_and_key(made: Shop, run: Run) -> None:
    """Each filter of `rows` narrows what is listed."""
    everything = attach(made.store, "done")
    for filters, expected in (
        (("--outcome", "succeeded"), everything.rows(outcome="succeeded")),
        (("--reason", "input.*"), everything.rows(reason="input.*")),
        (("--tier", "1"), everything.rows(tier=1)),
        (("--key", "bad-1"), everything.rows(keys=["bad-1"])),
        (
            ("--outcome", "succeeded", "--outcome", "quarantined"),
            everything.rows(outcome=["succeeded", "quarantined"]),
        ),
    ):
        code, document = run("rows", made.store, "done", *filters, "--limit", "0", "--json")
        told = json.loads(document)
        assert (code, told["rows"]) == (0, len(expected))
        assert [record["key"] for record in told["records"]] == expected.keys()


def test_rows_lists_a_page_and_says_how_many_there_are(made: Shop, run: Run) -> None:
    """`rows` shows the first ones and tells the number of all."""
    code, text = run("rows", made.store, "done", "--limit", "3")
    assert code == 0
    assert len(text.splitlines()) == 5
    assert f"3 of {ROWS + 1} rows" in text


def test_rows_are_counted_by_columns(made: Shop, run: Run) -> None:
    """`rows --count-by` counts by one or several columns, and the counts sum to the rows."""
    code, document = run("rows", made.store, "done", "--count-by", "outcome", "--count-by", "tier", "--json")
    assert code == 0
    assert sum(line["rows"] for line in json.loads(document)) == ROWS + 1
    _, text = run("rows", made.store, "done", "--count-by", "outcome")
    assert text.splitlines()[0].split() == ["outcome", "rows"]


def test_rows_are_written_to_a_file(made: Shop, run: Run, tmp_path: Path) -> None:
    """`rows --write` writes every matching row and says how many."""
    file = tmp_path / "rows.jsonl"
    code, document = run("rows", made.store, "done", "--outcome", "succeeded", "--write", file, "--json")
    written = json.loads(document)["written"]
    assert (code, written) == (0, len(attach(made.store, "done").rows(outcome="succeeded")))
    assert len(file.read_text(encoding="utf-8").splitlines()) == written
    assert "rows written to" in run("rows", made.store, "done", "--write", tmp_path / "rows.csv")[1]


def test_nothing_in_the_data_reaches_the_terminal_unescaped(tmp_path: Path, run: Run) -> None:
    """A key with escape sequences and direction marks is printed as escapes."""
    flow = Workflow(second_spec(), store=tmp_path / "enrich.db", client=simulated_client())
    row = {"sku": NASTY, "title": "HDMI cable", "description": "2 m", "source_category": "Cables"}
    flow.start("nasty", [row], unlocked=True)
    code, text = run("rows", tmp_path / "enrich.db", "nasty")
    assert code == 0
    assert "\x1b" not in text.replace("\\x1b", "")
    assert not {"\x1b", "\u202e", "\u202c"} & set(text)
    assert "\\x1b[31mred" in text


def test_the_bill_sums_what_was_spent(made: Shop, run: Run, tmp_path: Path) -> None:
    """`bill` tells the total and its lines, and writes them as CSV."""
    code, document = run("bill", made.store, "done", "--json", "--write", tmp_path / "bill.csv")
    told = json.loads(document)
    assert code == 0
    assert told["total_usd"] == str(attach(made.store, "done").bill().total_usd)
    assert len((tmp_path / "bill.csv").read_text().splitlines()) == len(told["lines"]) + 1
    assert run("bill", made.store, "done")[1].startswith("Bill of done: $")


def test_events_are_listed_from_where_one_left_off(made: Shop, run: Run) -> None:
    """`events` lists what happened, and with --after only what came later."""
    code, document = run("events", made.store, "done", "--json")
    everything = json.loads(document)
    assert (code, everything[-1]["kind"]) == (0, "run.balanced")
    _, document = run("events", made.store, "done", "--json", "--after", everything[-2]["id"])
    assert json.loads(document) == everything[-1:]
    assert "run.balanced" in run("events", made.store, "done")[1]


def test_a_need_names_the_store_that_was_asked(shop: Shop, run: Run) -> None:
    """What `status` says to type can be typed: the store is the one that was named, not a word for it."""
    assert run("pause", shop.store, "open", "--why", "lunch")[0] == 0
    text = run("status", shop.store, "open")[1]
    assert f"python -m batchkit resume {shop.store} open" in text


# ---------------------------------------------------------------- verify


def test_a_receipt_is_verified_from_the_store_or_its_folder(made: Shop, run: Run, tmp_path: Path) -> None:
    """`verify` checks a run of a store, or a folder with a receipt, against the source."""
    code, text = run("verify", made.store, "done", "--source", made.rows)
    assert (code, text.splitlines()[-1].startswith("VERIFIED")) == (0, True)
    attach(made.store, "done").reconcile().write(tmp_path / "receipt")
    code, document = run("verify", tmp_path / "receipt", "--source", made.rows, "--json")
    assert (code, json.loads(document)["verified"]) == (0, True)


def test_a_receipt_of_an_unfinished_run_is_told_apart(made: Shop, run: Run, tmp_path: Path) -> None:
    """`verify` of a run with open rows says how many, and exits with 75 where a finished one gives 0."""
    code, text = run("verify", made.store, "open")
    assert (code, "but the run is UNFINISHED: " in text.splitlines()[-1]) == (75, True)
    code, document = run("verify", made.store, "open", "--json")
    told = json.loads(document)
    assert (code, told["verified"], told["finished"]) == (75, True, False)


def test_a_receipt_that_does_not_fit_its_source_is_not_verified(made: Shop, run: Run, tmp_path: Path) -> None:
    """`verify` exits with 1 where the source has another record than the receipt counts."""
    other = tmp_path / "other.csv"
    other.write_text(made.rows.read_text(encoding="utf-8").replace("AB-", "AC-", 1), encoding="utf-8")
    code, document = run("verify", made.store, "done", "--source", other, "--json")
    assert (code, json.loads(document)["verified"]) == (1, False)


def test_the_program_beside_a_receipt_is_not_trusted(made: Shop, run: Run, tmp_path: Path) -> None:
    """`verify` runs its own verifier, never the one that came with the receipt."""
    folder = attach(made.store, "done").reconcile().write(tmp_path / "receipt")
    (folder / "verify.py").write_text("print('VERIFIED')")
    rows = bytearray((folder / "rows.jsonl.gz").read_bytes())
    (folder / "rows.jsonl.gz").write_bytes(rows[:-9])
    assert run("verify", folder)[0] == 1


def test_a_folder_without_a_receipt_is_refused(run: Run, tmp_path: Path) -> None:
    """`verify` of something else says what it needs."""
    code, text = run("verify", tmp_path)
    assert (code, text.startswith("UsageError")) == (1, True)
    assert run("verify", tmp_path, "--source", tmp_path / "nothing.csv")[0] == 1


# ---------------------------------------------------------------- asking


def test_a_run_is_paused_resumed_and_canceled(shop: Shop, run: Run) -> None:
    """`pause`, `resume` and `cancel` change the run's state where nobody moves it, and say who does the rest."""
    code, document = run("pause", shop.store, "open", "--why", "wait", "--by", "lead", "--json")
    assert (code, json.loads(document)["state"]) == (0, "paused")
    assert run("status", shop.store, "open")[0] == 3
    assert "already" in run("pause", shop.store, "open")[1]
    code, text = run("resume", shop.store, "open")
    assert (code, "goes on" in text) == (0, True)
    assert run("status", shop.store, "open")[0] == 75
    code, text = run("cancel", shop.store, "open")
    assert (code, "canceling" in text) == (0, True)
    shop.flow().resume("open").wait(progress="none")
    code, document = run("status", shop.store, "open", "--json")
    assert (code, json.loads(document)["outcomes"]["canceled"] > 0) == (0, True)


def test_a_request_that_cannot_be_is_told(shop: Shop, run: Run) -> None:
    """A closed run cannot be paused; the command says so and exits with 1."""
    code, document = run("pause", shop.store, "done", "--json")
    assert (code, json.loads(document)["possible"]) == (1, False)


def test_a_request_waits_for_whoever_moves_the_run(shop: Shop, run: Run) -> None:
    """While another process holds the run, the request is written down and carried out in its next pass."""
    store = SQLiteStore(shop.store)
    record = attach(store, "open").record
    lease = store.acquire(record.id, "another-process", 60.0)
    assert lease is not None
    code, text = run("pause", shop.store, "open")
    assert (code, "another-process" in text) == (0, True)
    store.release(lease)
    shop.flow().resume("open").advance()
    assert attach(shop.store, "open").record.state.value == "paused"


def test_the_budget_is_shown_and_set(shop: Shop, run: Run) -> None:
    """`budget` shows the cap in force, sets another in somebody's name, and refuses what is no amount."""
    assert "no cap" in run("budget", shop.store)[1]
    assert run("budget", shop.store, "--usd", "470")[0] == 1
    assert run("budget", shop.store, "--usd", "much", "--by", "lead")[0] == 1
    code, document = run("budget", shop.store, "--usd", "470.50", "--by", "lead", "--why", "x", "--json")
    told = json.loads(document)
    assert (code, told["usd"], told["by"]) == (0, "470.5", "lead")
    assert "$470.50, set by lead" in run("budget", shop.store)[1]


def test_a_run_without_money_exits_with_4(shop: Shop, run: Run) -> None:
    """A run that the cap stops needs money: exit code 4, and with a higher cap it goes on."""
    flow = shop.flow(budget=Budget(usd="0.0001"))
    flow.start("poor", shop.rows, unlocked=True, on_duplicate="first").wait(progress="none")
    code, text = run("status", shop.store, "poor")
    assert (code, "money needed" in text) == (4, True)
    assert run("budget", shop.store, "--usd", "50", "--by", "lead")[0] == 0
    shop.flow().resume("poor").wait(progress="none")
    assert run("status", shop.store, "poor")[0] == 0


def test_answers_come_in_by_file(shop: Shop, run: Run, tmp_path: Path) -> None:
    """`answers --save` writes the queue, `answers` takes it back filled in; the mover settles what was said."""
    sheet = tmp_path / "queue.jsonl"
    code, document = run(
        "answers", shop.store, "done", sheet, "--save", "--limit", "2", "--by", "reviewer-1", "--json"
    )
    assert (code, json.loads(document)["written"]) == (0, 2)
    lines = [json.loads(line) for line in sheet.read_text(encoding="utf-8").splitlines()]
    lines[0]["output"] = {"category": "Cables", "features": [], "summary": "A cable."}
    lines[1]["verdict"] = "unanswerable"
    sheet.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    code, text = run("answers", shop.store, "done", sheet)
    assert (code, text.startswith("2 applied")) == (0, True)
    assert "whoever moves the run" in text
    shop.flow().resume("done").advance()
    outcomes = [
        row.outcome.value for row in attach(shop.store, "done").rows(keys=[line["key"] for line in lines])
    ]
    assert sorted(outcomes) == ["quarantined", "succeeded"]


def test_answers_that_cannot_be_taken_need_a_person(shop: Shop, run: Run, tmp_path: Path) -> None:
    """`answers` exits with 3 where an answer breaks the contract, and names its row."""
    sheet = tmp_path / "queue.jsonl"
    run("answers", shop.store, "done", sheet, "--save", "--limit", "1", "--by", "reviewer-1")
    line = json.loads(sheet.read_text(encoding="utf-8"))
    line["output"] = {"category": "Yachts", "features": [], "summary": ""}
    sheet.write_text(json.dumps(line) + "\n", encoding="utf-8")
    code, document = run("answers", shop.store, "done", sheet, "--json")
    assert (code, json.loads(document)["invalid"][0]["key"]) == (3, line["key"])


# ---------------------------------------------------------------- rollback


def promoted(shop: Shop) -> int:
    """Promote in this folder's own catalog, and give the promotion's number."""
    made = shop.flow().resume("done").promote(shop.target)
    assert made.id is not None
    return made.id


def test_a_promotion_is_rolled_back_by_name(shop: Shop, run: Run) -> None:
    """`rollback STORE RUN` undoes the run's newest standing promotion; a second one finds nothing left."""
    with closing(sqlite3.connect(shop.root / "catalog.db")) as db:
        db.execute("DELETE FROM batchkit_promotion")
        db.execute("UPDATE products SET category = NULL, features = NULL, summary = NULL")
        db.commit()
    before = shop.categories()
    number = promoted(shop)
    assert shop.categories() != before
    code, document = run("rollback", shop.store, "done", "--json")
    told = json.loads(document)
    assert (code, told["promotions"], told["conflicts"]) == (0, [number], [])
    assert shop.categories() == before
    for again in ([], ["--promotion", number], ["--to", number]):
        code, said = run("rollback", shop.store, "done", *again)
        assert (code, "nothing left to roll back" in said) == (0, True)
    code, document = run("rollback", shop.store, "done", "--json")
    assert (code, json.loads(document)["promotions"]) == (0, [])
    assert shop.categories() == before


def test_a_rollback_lists_what_somebody_changed_since(shop: Shop, run: Run) -> None:
    """A row that somebody changed since the promotion is left alone, and the command exits with 3."""
    with closing(sqlite3.connect(shop.root / "catalog.db")) as db:
        db.execute("DELETE FROM batchkit_promotion")
        db.execute("UPDATE products SET category = NULL, features = NULL, summary = NULL")
        db.commit()
    number = promoted(shop)
    changed = next(row.key for row in attach(shop.store, "done").rows(outcome="succeeded"))
    with closing(sqlite3.connect(shop.root / "catalog.db")) as db:
        db.execute("UPDATE products SET category = 'by hand' WHERE sku = ?", (changed,))
        db.commit()
    code, document = run("rollback", shop.store, "done", "--promotion", number, "--key", "sku", "--json")
    assert (code, json.loads(document)["conflicts"]) == (3, [changed])
    assert (changed, "by hand") in shop.categories()


def test_a_rollback_of_what_was_never_promoted_is_refused(shop: Shop, run: Run) -> None:
    """Another run's promotion, no promotion at all, and two ways of naming one are refused."""
    assert run("rollback", shop.store, "open")[0] == 1
    assert run("rollback", shop.store, "done", "--promotion", "99")[0] == 1
    assert run("rollback", shop.store, "done", "--promotion", "1", "--to", "1")[0] == 1


# ---------------------------------------------------------------- moving


@pytest.fixture
def app(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give a module with a workflow and a target, as a user's own."""
    name = f"own_app_{abs(hash(shop.root))}"
    (shop.root / f"{name}.py").write_text(
        "from batchkit import SQLiteTarget, Workflow\n"
        "from batchkit.demo.task import second_spec\n"
        "from batchkit.testing import simulated_client\n"
        "client = simulated_client(seed=1_000)\n"
        f"def flow():\n    return Workflow(second_spec(), store={shop.store!r}, client=client)\n"
        f"def catalog():\n    return SQLiteTarget({str(shop.root / 'catalog.db')!r}, 'products', 'sku')\n"
    )
    monkeypatch.chdir(shop.root)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def test_a_run_is_advanced_worked_and_promoted_by_its_app(shop: Shop, app: str, run: Run) -> None:
    """`advance` makes one pass, `work --once` moves until nothing is open, `promote` writes to the catalog."""
    code, document = run("advance", "open", "--app", f"{app}:flow", "--json")
    told = json.loads(document)
    assert (code, told["moved"], told["batches"]["running"]) == (75, True, 1)
    assert run("promote", "open", "--app", f"{app}:flow", "--target", f"{app}:catalog")[0] == 3
    code, text = run("work", "--app", f"{app}:flow", "--once")
    assert (code, text.strip()) == (0, "no open run")
    assert run("advance", "--app", f"{app}:flow", "--json") == (0, "[]\n")
    target = f"{app}:catalog"
    code, document = run("promote", "open", "--app", f"{app}:flow", "--target", target, "--dry-run", "--json")
    assert (code, json.loads(document)["id"]) == (0, None)
    code, document = run("promote", "open", "--app", f"{app}:flow", "--target", target, "--json")
    told = json.loads(document)
    assert (code, told["run"], told["id"] is not None) == (0, "open", True)


@pytest.mark.parametrize(
    "name",
    [
        "flow",
        "nothing_here:flow",
        "batchkit:source",
        "batchkit:no_such_name",
        "batchkit.cli:main.nothing",
        "flow:",
    ],
)
def test_an_app_that_is_none_is_refused_by_name(name: str, run: Run) -> None:
    """`--app` says what it found instead of a workflow."""
    code, text = run("advance", "--app", name)
    assert (code, text.startswith("UsageError")) == (1, True)


def test_a_target_that_is_none_is_refused(app: str, run: Run) -> None:
    """`--target` says what it found instead of a target."""
    code, text = run("promote", "done", "--app", f"{app}:flow", "--target", "batchkit:source")
    assert (code, "no target" in text) == (1, True)


# ---------------------------------------------------------------- keeping


def test_doctor_says_what_a_store_holds_and_changes_nothing(made: Shop, run: Run) -> None:
    """`doctor` names the version, the guard, open runs and the lock, and changes no byte of them."""

    def files() -> dict[str, bytes]:
        # SQLite makes an empty log beside a file that it only reads.
        found = {path.name: path.read_bytes() for path in made.root.iterdir() if path.suffix != ".db-shm"}
        return {name: body for name, body in found.items() if body}

    before = files()
    code, text = run("doctor", made.store)
    assert code == 0
    version = re.escape(f"(tables {VERSION}, this code {VERSION})")
    assert re.match(rf".*enrich\.db {version}\ndamage  none\nguard   it may send\n", text)
    assert "runs    1 open, 1 closed\n        open: " in text
    assert text.endswith("doubts  0\nlock    none\n")
    assert files() == before
    found = json.loads(run("doctor", made.store, "--json")[1])
    assert (found["closed"], found["open"][0]["name"], found["exit_code"]) == (1, "open", 0)


def test_doctor_sees_a_copy_without_taking_it_for_the_store(made: Shop, run: Run, tmp_path: Path) -> None:
    """Of a copied store `doctor` says why it is held and exits with 3; the copy stays held and gets no guard file."""
    copy = tmp_path / "copy.db"
    shutil.copy(made.store, copy)
    code, text = run("doctor", copy)
    assert code == 3
    assert "guard   copy.db.guard is missing" in text
    assert f"python -m batchkit confirm {copy}" in text
    assert not (tmp_path / "copy.db.guard").exists()


def test_a_copy_that_is_confirmed_may_send(made: Shop, run: Run, tmp_path: Path) -> None:
    """`confirm` says why a store was held and lets it go on; said again, it changes nothing."""
    copy = tmp_path / "copy.db"
    shutil.copy(made.store, copy)
    code, text = run("confirm", copy)
    assert code == 0
    assert "it was held: copy.db.guard is missing" in text
    assert SQLiteStore(str(copy)).held() == ""
    assert run("confirm", copy) == (0, "it was not held; nothing was changed\n")
    assert json.loads(run("confirm", copy, "--json")[1]) == {"store": str(copy), "was_held": ""}


def test_no_store_is_made_to_be_confirmed(run: Run, tmp_path: Path) -> None:
    """A mistyped path is told, and stays without a file."""
    code, _ = run("confirm", tmp_path / "no.db")
    assert code == 1
    assert not (tmp_path / "no.db").exists()


def test_without_a_verb_the_command_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to know of --help: all verbs are listed, and the exit code is that of what was not understood."""
    assert main([]) == 2
    told = capsys.readouterr().err
    assert all(verb in told for verb in ("status", "rollback", "doctor", "demo"))


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """--version names the distribution, as `pip` knows it, and its version."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"python -m batchkit, message-batchkit {version('message-batchkit')}\n"


def test_doctor_finds_damage(made: Shop, run: Run, tmp_path: Path) -> None:
    """A file of which a page was overwritten is told as damaged, with exit code 1."""
    broken = tmp_path / "broken.db"
    body = bytearray(Path(made.store).read_bytes())
    with closing(sqlite3.connect(made.store)) as db:
        # A page of an index or table that the schema does not stand on.
        [page] = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'result'").fetchone()
        size = db.execute("PRAGMA page_size").fetchone()[0]
    body[(page - 1) * size : page * size] = b"\xff" * size
    broken.write_bytes(body)
    code, text = run("doctor", broken)
    assert code == 1
    assert "damage  " in text
    assert "damage  none" not in text
    assert "newest backup" in text


def test_doctor_names_open_doubts_and_the_newest_lock(shop: Shop, run: Run) -> None:
    """A held batch is named with its run and makes the exit code 3; the newest of two locks is told."""
    with closing(SQLiteStore(shop.store)) as store:
        for n, who in enumerate(("ann", "bob")):
            lock = {"by": who, "at": 1_000.0 + n, "rows": 40, "share": 0.95, "eval_set": "1-abc"}
            store.put(DocKind.LOCK, f"{9 - n}" * 64, json.dumps(lock).encode())
    with closing(sqlite3.connect(shop.store)) as db:
        db.execute("UPDATE batch SET state = 'held', held_from = 'doubtful' WHERE id = 1")
        db.commit()
    code, text = run("doctor", shop.store)
    assert code == 3
    assert re.search(r"doubts  1\n        batch 1 of done: held since \d{4}-", text)
    assert "lock    888888 by bob, 1970-01-01 00:16:41 UTC, 40 rows, 95%, eval set 1-abc" in text


@pytest.mark.parametrize("kind", ["none", "text", "another", "newer"])
def test_doctor_refuses_what_is_no_store(kind: str, made: Shop, run: Run, tmp_path: Path) -> None:
    """A file that is missing, no database, of another program or of newer code is named in one message, unchanged."""
    file = tmp_path / "x.db"
    if kind == "text":
        file.write_text("no database at all, but long enough to look at it\n" * 20)
    elif kind == "another":
        with closing(sqlite3.connect(file)) as db:
            db.execute("CREATE TABLE t (a)")
    elif kind == "newer":
        shutil.copy(made.store, file)
        with closing(sqlite3.connect(file)) as db:
            db.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = file.read_bytes() if file.exists() else None
    code, text = run("doctor", file)
    assert code == 1
    assert re.match(r"(UsageError|StoreError|StoreHeld): ", text)
    assert (file.read_bytes() if file.exists() else None) == before


def test_doctor_looks_at_a_store_on_a_server(postgres: str, run: Run) -> None:
    """On PostgreSQL `doctor` leaves damage to the server's tools, and holds a copied database as a copied file."""
    with closing(PostgresStore(postgres, migrate=True)) as store:
        store.open_run(NewRun(name="nightly", spec=Digest("0" * 64)))
    code, text = run("doctor", url(postgres))
    assert code == 0
    assert f"(tables {postgres_schema.VERSION}, this code {postgres_schema.VERSION})" in text
    assert "damage  not looked for" in text
    assert "runs    1 open, 0 closed\n        nightly: freezing" in text
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE batchkit.store SET cluster = 'another'")
    code, text = run("doctor", url(postgres))
    assert (code, "guard   it was made on another server" in text) == (3, True)


def test_a_run_is_handed_over_by_name(made: Shop, run: Run, tmp_path: Path) -> None:
    """`handoff` writes the folder without spec or key, and exits with 75 while the run is open."""
    code, text = run("handoff", made.store, "done", tmp_path / "out", "--contact", "the catalog team")
    assert code == 0
    assert "README.html" in text
    assert "the catalog team" in (tmp_path / "out" / "RUNBOOK.md").read_text(encoding="utf-8")
    code, text = run("handoff", made.store, "open", tmp_path / "early", "--json")
    assert code == 75
    told = json.loads(text)
    assert (told["finished"], "receipt.json" in told["files"]) == (False, True)


@pytest.fixture
def evalsets(tmp_path: Path) -> tuple[Path, Path]:
    """An eval set's file, and what somebody made of it."""
    rows = [
        EvalRow(
            key=key,
            source={"title": f"title {key}"},
            expected={"category": "Cables", "features": ["2 m"], "summary": "A cable."},
            verdict="accept",
            by="ann",
        )
        for key in ("a", "b", "c")
    ]
    contract = second_spec().contract
    old = EvalSet(name="pilot", contract=contract, rows=tuple(rows))
    changed = attrs.evolve(
        rows[1], verdict="edit", expected={"category": "Chargers", "features": ["2 m"], "summary": "A cable."}
    )
    new = EvalSet(name="pilot", contract=contract, rows=(rows[0], changed, attrs.evolve(rows[2], key="d")))
    old.save(tmp_path / "old.jsonl")
    new.save(tmp_path / "new.jsonl")
    return tmp_path / "old.jsonl", tmp_path / "new.jsonl"


def test_an_eval_set_is_shown_without_its_contract(evalsets: tuple[Path, Path], run: Run) -> None:
    """`evalset show` counts the verdicts and lists every row, as text and as JSON."""
    code, text = run("evalset", "show", evalsets[1])
    assert code == 0
    assert text.startswith("pilot: 3 rows (2 accept, 1 edit), contract ")
    assert [line.split()[:2] for line in text.splitlines()[2:]] == [
        ["a", "accept"],
        ["b", "edit"],
        ["d", "accept"],
    ]
    found = json.loads(run("evalset", "show", evalsets[1], "--json")[1])
    assert [row["key"] for row in found["rows"]] == ["a", "b", "d"]


def test_two_eval_sets_are_compared_field_by_field(evalsets: tuple[Path, Path], run: Run) -> None:
    """`evalset diff OLD NEW` names what was added and removed, and of each changed row what it was and is."""
    code, text = run("evalset", "diff", *evalsets)
    assert code == 0
    assert text.splitlines()[0] == "added 1: d; removed 1: c; changed 1: b"
    assert [line.split() for line in text.splitlines()[2:]] == [
        ["b", "verdict", "accept", "edit"],
        ["b", "expected.category", "Cables", "Chargers"],
    ]
    found = json.loads(run("evalset", "diff", *evalsets, "--json")[1])
    assert (found["added"], found["removed"], found["contract_changed"]) == (["d"], ["c"], False)
    assert run("evalset", "diff", evalsets[0], evalsets[0]) == (0, "no difference\n")


def test_evalset_refuses_what_it_cannot_read(evalsets: tuple[Path, Path], run: Run, tmp_path: Path) -> None:
    """One file for diff, a file that is missing, and one that is no eval set are each told."""
    assert "two files" in run("evalset", "diff", evalsets[0])[1]
    assert "there is no file" in run("evalset", "show", tmp_path / "no.jsonl")[1]
    (tmp_path / "rows.jsonl").write_text('{"sku": "1"}\n')
    assert "rows.jsonl is no eval set" in run("evalset", "show", tmp_path / "rows.jsonl")[1]


# ---------------------------------------------------------------- errors and the process


@pytest.mark.parametrize(
    "argv",
    [
        ("status", "nothing.db", "done"),
        ("status", "{store}", "no such run"),
        ("rows", "{store}", "done", "--reason", "no.such"),
        ("rows", "{store}", "done", "--outcome", "nowhere"),
        ("rows", "{store}", "done", "--write", "rows.xml"),
        ("answers", "{store}", "done", "nothing.csv"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_1(made: Shop, run: Run, argv: tuple[str, ...]) -> None:
    """A mistake of the caller is told in one message without a traceback."""
    code, text = run(*(arg.format(store=made.store) for arg in argv))
    assert code == 1
    assert text.startswith("UsageError: ")
    assert "Traceback" not in text


def python(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=False, **options)


def test_verbs_that_need_no_api_do_not_import_the_sdk(made: Shop) -> None:
    """Looking and asking neither import the SDK nor need a key."""
    program = (
        "import sys; from batchkit.cli import main\n"
        f"for argv in (['status', {made.store!r}, 'done'], ['rows', {made.store!r}, 'done', '--limit', '1'],\n"
        f"             ['bill', {made.store!r}, 'done'], ['verify', {made.store!r}, 'done'],\n"
        f"             ['budget', {made.store!r}], ['events', {made.store!r}, 'done'], ['runs', {made.store!r}],\n"
        f"             ['doctor', {made.store!r}]):\n"
        "    assert main(argv) == 0, argv\n"
        "assert 'anthropic' not in sys.modules\n"
    )
    told = python("-c", program)
    assert told.returncode == 0, told.stderr


def test_the_exit_code_is_the_processs(made: Shop) -> None:
    """`python -m batchkit` exits with the verb's code, and 2 where it was not understood."""
    assert python("-m", "batchkit", "status", made.store, "open").returncode == 75
    assert python("-m", "batchkit", "nonsense").returncode == 2
    assert "Exit codes" in python("-m", "batchkit", "--help").stdout


def test_a_reader_that_leaves_is_no_error(made: Shop) -> None:
    """Piped into something that stops reading, the command ends quietly."""
    command = f"{sys.executable} -m batchkit rows {made.store} done --limit 0 --json | head -1"
    bash = shutil.which("bash")
    assert bash is not None
    told = subprocess.run(
        [bash, "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "{\n", "")


def test_an_interrupted_command_says_that_nothing_was_canceled(
    made: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends the command, and says that nothing was canceled."""

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    assert main(["status", made.store, "open", "--watch"]) == 130
    assert "nothing was canceled" in capsys.readouterr().err


def test_simulate_is_the_simulators_server() -> None:
    """`simulate` serves until terminated, and prints its address."""
    server = subprocess.Popen(
        [sys.executable, "-m", "batchkit", "simulate", "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        assert json.loads(server.stdout.readline())["url"].startswith("http://127.0.0.1:")
    finally:
        server.terminate()
        server.wait(20)
        server.stdout.close()
    assert server.returncode == 0
