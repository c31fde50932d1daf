"""The hand-over: a folder with which a stranger can check a run, answer for it and go on with it."""

from __future__ import annotations

import base64
import csv
import hashlib
import html.parser
import json
import random
import re
import shlex
import sqlite3
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rig import VALID, Label, answers
from verifying import verify

from batchkit import Contract, EvalSet, Gate, Prompt, Run, Spec, SQLiteTarget, Tier, Workflow, attach
from batchkit.cli.parser import make_parser
from batchkit.errors import UsageError
from batchkit.handoff import handoff
from batchkit.testing import Answer, SimulatedAPI, simulated_client

EVIL = '<img src=x onerror="alert(1)">|`$(reboot)`\u202e & {title} $run'
NAME = 'catalog "2026" <b>; $(x) `y`'
HOSTILE = [EVIL, "=1+1", "</td><script>x</script>", "javascript:alert(1)", "\x1b[31m"]


def shy(out: Label) -> bool:
    return out.color == "green"


SPEC: Spec[Any] = Spec(
    Contract(Label, sparse=shy),
    Prompt("Word: {word}"),
    key="sku",
    metadata=["note"],
    tiers=[Tier("claude-haiku-4-5", max_tokens=300)],
)


def source(folder: Path) -> Path:
    path = folder / "products of may.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "word", "note"])
        writer.writerows([f"S{n:02}", f"w{n:02}", "fine"] for n in range(20))
        writer.writerows([f"{evil} {n}", "broken", evil] for n, evil in enumerate(HOSTILE))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run[Any]:
    """A locked, finished and promoted run with hostile text wherever text can be."""
    home = tmp_path_factory.mktemp("shop")
    model = answers({"broken": Answer(text=EVIL), "w01": Answer(text=json.dumps({"color": "green"}))}, VALID)
    client = simulated_client(api=SimulatedAPI(model))
    flow = Workflow(SPEC, store=home / "e.db", client=client, rng=random.Random(1))
    pilot = flow.pilot([{"sku": f"S{n:02}", "word": f"w{n:02}", "note": EVIL} for n in range(5)], size=4)
    pilot.run()
    for row in pilot.review():
        pilot.review().judge(row.key, "accept" if row.output else "reject", by="a reader", note=EVIL)
    pilot.lock(by=EVIL, gate=Gate(min_pass=0.1), note=EVIL)
    made = flow.start(NAME, source(home))
    assert made.wait(progress="none").done
    with sqlite3.connect(home / "c.db") as catalog:
        catalog.execute("CREATE TABLE p (sku TEXT PRIMARY KEY, color TEXT)")
        catalog.executemany("INSERT INTO p (sku) VALUES (?)", [(f"S{n:02}",) for n in range(19)])
    catalog.close()
    made.promote(SQLiteTarget(home / "c.db", "p", "sku"))
    return made


@pytest.fixture(scope="module")
def folder(run: Run[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its hand-over."""
    return run.handoff(tmp_path_factory.mktemp("out") / "new" / "handoff", contact=EVIL)


class Page(html.parser.HTMLParser):
    """Everything that could do something, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.policy = ""
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(attrs)
        named = dict(attrs)
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"] or ""

    def handle_data(self, data: str) -> None:
        self.text += data


class TestFiles:
    def test_all_are_there_and_private(self, folder: Path) -> None:
        """The folder holds page, runbook, eval set, quarantine, queue, bill and receipt, each for its owner only."""
        names = {path.name for path in folder.iterdir()}
        assert names == {
            "README.html",
            "RUNBOOK.md",
            "evalset.jsonl",
            "quarantine.csv",
            "quarantine.jsonl",
            "queue.csv",
            "bill.csv",
            "receipt.json",
            "receipt-1.json",
            "rows.jsonl.gz",
            "verify.py",
        }
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}

    def test_the_receipt_verifies(self, run: Run[Any], folder: Path, tmp_path: Path) -> None:
        """The verifier in the folder passes with the source, and the receipt counts the promotion."""
        code, said = verify(folder, "--source", source(tmp_path))
        assert code == 0, said
        assert "ok      promotion 1" in said

    def test_quarantine_says_why(self, run: Run[Any], folder: Path) -> None:
        """Each failed row stands there once with reason, detail, source and answer; formulas are defused in CSV only."""
        lines = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text("utf-8").splitlines()]
        with (folder / "quarantine.csv").open(encoding="utf-8", newline="") as file:
            cells = list(csv.DictReader(file))
        assert [line["key"] for line in lines] == [f"{evil} {n}" for n, evil in enumerate(HOSTILE)]
        assert {line["reason"] for line in lines} == {"output.unparseable"}
        assert {line["answer"] for line in lines} == {EVIL}
        assert [line["source.note"] for line in lines] == HOSTILE
        assert [cell["source.note"] for cell in cells] == [EVIL, "'=1+1", *HOSTILE[2:]]
        assert all(cell["detail"] for cell in cells)

    def test_the_queue_can_be_answered(self, run: Run[Any], folder: Path) -> None:
        """The queue's file names the rows that wait."""
        with (folder / "queue.csv").open(encoding="utf-8-sig", newline="") as file:
            assert [line["key"] for line in csv.DictReader(file)] == ["S01"]

    def test_the_eval_set_can_be_loaded(self, folder: Path) -> None:
        """The eval set is the one that the spec was locked with."""
        evals = EvalSet.load(folder / "evalset.jsonl", SPEC.contract)
        assert len(evals) == 4
        assert {row.note for row in evals} == {EVIL}

    def test_the_bill_is_the_runs(self, run: Run[Any], folder: Path) -> None:
        """The lines of the bill sum to what the run spent."""
        with (folder / "bill.csv").open(encoding="utf-8", newline="") as file:
            total = sum(float(line["cost_usd"]) for line in csv.DictReader(file))
        assert total == pytest.approx(float(run.progress.spent_usd))


class TestPage:
    def test_runs_and_loads_nothing(self, folder: Path) -> None:
        """No script, no handler, no address of another host; the policy admits the page's own style and nothing else."""
        text = (folder / "README.html").read_text("utf-8")
        page = Page(text)
        style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
        assert style is not None
        digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
        assert page.policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
        assert not page.tags & {"script", "img", "iframe", "object", "link", "form", "b"}
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert {value for name, value in page.attributes if name in {"href", "src"}} == {"RUNBOOK.md"}
        assert "http:" not in text
        assert "https:" not in text

    def test_shows_hostile_text_as_text(self, folder: Path) -> None:
        """Names and notes are shown as they are, but for characters that would hide or turn what is read."""
        text = (folder / "README.html").read_text("utf-8")
        shown = Page(text).text
        assert f"Hand-over of {NAME}" in shown
        assert shown.count(EVIL.replace("\u202e", "\\u202e")) == 3
        assert "\u202e" not in text

    def test_says_what_ran(self, run: Run[Any], folder: Path) -> None:
        """The equation, the reasons with their meaning, the lock and the digest of the receipt stand on it."""
        shown = Page((folder / "README.html").read_text("utf-8")).text
        receipt = (folder / "receipt.json").read_bytes()
        assert "Every record is accounted for" in shown
        assert "succeeded 19 + quarantined 5 + human_queued 1 = 25 of 25 source records" in shown
        assert "The answer is not exactly one JSON object." in shown
        assert "staged 19 = written 18" in shown
        assert hashlib.sha256(receipt).hexdigest() in shown


class TestRunbook:
    def test_its_commands_exist(self, folder: Path) -> None:
        """Every command in it is one line that the command line takes, with this run's name and store."""
        text = (folder / "RUNBOOK.md").read_text("utf-8")
        commands = [line.strip() for line in text.splitlines() if line.startswith("    python -m batchkit")]
        parser = make_parser()
        parsed = [parser.parse_args(shlex.split(command)[3:]) for command in commands]
        assert len(parsed) >= 15
        assert {options.run for options in parsed if getattr(options, "run", None)} == {NAME}
        assert {Path(options.store).name for options in parsed if hasattr(options, "store")} == {"e.db"}
        assert {Path(o.source).name for o in parsed if getattr(o, "source", None)} == {"products of may.csv"}

    def test_its_python_is_python(self, folder: Path) -> None:
        """Every block of code in it compiles, and names this run."""
        text = (folder / "RUNBOOK.md").read_text("utf-8")
        blocks = re.findall(r"```python\n(.*?)```\n", text, re.DOTALL)
        assert len(blocks) == 2
        for block in blocks:
            compile(block, "runbook", "exec")
            assert f"flow.resume({NAME!r})" in block
        assert "flow.pilot(name='pilot')" in blocks[1]

    def test_its_retry_works(self, run: Run[Any], folder: Path) -> None:
        """The first block of code, run as it stands, retries exactly the failed rows."""
        text = (folder / "RUNBOOK.md").read_text("utf-8")
        names: dict[str, Any] = {"flow": run._flow}
        exec(re.findall(r"```python\n(.*?)```\n", text, re.DOTALL)[0], names)
        assert names["fix"].name == f"{NAME}-retry-1"
        assert names["fix"].rows().keys() == run.failures().keys()

    def test_shows_hostile_text_as_text(self, folder: Path) -> None:
        """No markup of anybody else's in it: no tag, no table cell, no character that turns the line."""
        text = (folder / "RUNBOOK.md").read_text("utf-8")
        outside = re.sub(r"`[^`\n]*`", "", text.replace(shlex.quote(NAME), ""))
        assert "<img" not in outside.replace("\\<", "")
        assert "\u202e" not in text
        assert "\x1b" not in text

    def test_tells_what_failed_rows_need(self, folder: Path) -> None:
        """Each reason that occurred is listed with its count, its meaning and what to do."""
        text = (folder / "RUNBOOK.md").read_text("utf-8")
        assert "| `output.unparseable` | 5 | The answer is not exactly one JSON object. |" in text
        assert "1 rows wait for a person; they lie in `queue.csv`." in text
        assert re.search(r"^\| 1 \| sqlite:.*c\.db\\#p \|.*\| 18 \| 0 \| 1 \|$", text, re.MULTILINE)


class TestOtherRuns:
    def test_an_open_unlocked_run(self, tmp_path: Path) -> None:
        """A run that is not finished can be handed over: the page says what is open and that nobody accepted it."""
        flow = Workflow(SPEC, store=":memory:", client=simulated_client())
        rows = tmp_path / "in\n    rm x ```.csv"
        rows.write_text("sku,word,note\na,w,n\n", "utf-8")
        open_run = flow.start("r ```", rows, unlocked=True)
        open_run.handoff(tmp_path)
        shown = Page((tmp_path / "README.html").read_text("utf-8")).text
        assert "Not finished: 1 rows are still open" in shown
        assert "Nobody accepted this spec" in shown
        assert not (tmp_path / "evalset.jsonl").exists()
        assert not (tmp_path / "queue.csv").exists()
        text = (tmp_path / "RUNBOOK.md").read_text("utf-8")
        assert "No row failed." in text
        assert not [line for line in text.splitlines() if line.startswith("    rm")]
        command = next(line for line in text.splitlines() if line.startswith("    python verify.py"))
        told = subprocess.run(
            ["bash", "-c", f"printf %s {command.split(' --source ')[1]}"], check=True, capture_output=True
        )
        assert told.stdout.decode() == rows.name

    def test_handing_over_again_replaces_everything(self, run: Run[Any], tmp_path: Path) -> None:
        """A second hand-over into the same folder leaves nothing of the first that no longer applies."""
        run.handoff(tmp_path)
        flow = Workflow(SPEC, store=":memory:", client=simulated_client())
        other = flow.start("other", [{"sku": "a", "word": "w", "note": None}], unlocked=True)
        other.handoff(tmp_path)
        assert not (tmp_path / "evalset.jsonl").exists()
        assert not (tmp_path / "queue.csv").exists()
        assert not (tmp_path / "receipt-1.json").exists()
        assert (tmp_path / "quarantine.jsonl").read_bytes() == b""
        assert verify(tmp_path)[0] == 75

    def test_a_queue_that_nobody_touched_is_written_anew(self, run: Run[Any], tmp_path: Path) -> None:
        """A run with an open queue can be handed over again and again; its queue stands there once."""
        run.handoff(tmp_path)
        before = (tmp_path / "queue.csv").read_bytes()
        run.handoff(tmp_path)
        assert (tmp_path / "queue.csv").read_bytes() == before
        assert not (tmp_path / "queue-2.csv").exists()

    def test_a_queue_with_answers_is_kept(self, run: Run[Any], tmp_path: Path) -> None:
        """What somebody filled in stays; the next hand-over writes beside it and names that file."""
        run.handoff(tmp_path)
        with (tmp_path / "queue.csv").open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lines, columns = list(reader), list(reader.fieldnames or ())
        with (tmp_path / "queue.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({**line, "verdict": "unanswerable"} for line in lines)
        filled_in = (tmp_path / "queue.csv").read_bytes()
        for _ in range(2):
            run.handoff(tmp_path)
        assert (tmp_path / "queue.csv").read_bytes() == filled_in
        assert not run.queue().holds_answers(tmp_path / "queue-2.csv")
        assert not (tmp_path / "queue-3.csv").exists()
        assert "lie in `queue-2.csv`" in (tmp_path / "RUNBOOK.md").read_text("utf-8")
        with pytest.raises(UsageError, match="no file"):
            run.queue().holds_answers(tmp_path / "queue-3.csv")
        (tmp_path / "other.csv").write_bytes(b"\xff\xfe")
        assert run.queue().holds_answers(tmp_path / "other.csv")

    def test_needs_no_spec_and_no_key(self, run: Run[Any], tmp_path: Path) -> None:
        """A run looked at through its store alone is handed over with the same receipt."""
        view = attach(run._flow.store, NAME)
        made = handoff(view, tmp_path, where="postgresql://host/db")
        assert made == tmp_path
        assert (tmp_path / "receipt.json").read_bytes()
        assert "python -m batchkit bill postgresql://host/db " in (tmp_path / "RUNBOOK.md").read_text("utf-8")
