"""The four equations and the receipt that holds them: exact, whatever happened to the rows."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from rig import VALID, Label, Rig, answers
from verifying import verify

from batchkit import Contract, Prompt, Run, Spec, SQLiteStore, SQLiteTarget, StoreError, Tier, Workflow
from batchkit.equations import Equations, count
from batchkit.holding import accept_missing
from batchkit.model import DocKind, NewRun, Settled
from batchkit.prices import known_price
from batchkit.receipt import digest_of, issue_receipt, latest_receipt, write_receipt
from batchkit.standing import scope_of
from batchkit.states import BatchState, RowEvent, RowState
from batchkit.testing import Answer, Response, SimulatedAPI, simulated_client


def shy(out: Label) -> bool:
    return out.color == "green"


SPEC: Spec[Any] = Spec(
    Contract(Label, sparse=shy),
    Prompt("Word: {word}"),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
)
GREEN = Answer(text=json.dumps({"color": "green"}))


def flow_of(by_word: Mapping[str, Answer], **options: Any) -> tuple[Workflow[Any], SimulatedAPI]:
    api = SimulatedAPI(answers(by_word))
    flow = Workflow(SPEC, store=":memory:", client=simulated_client(api=api), rng=random.Random(3), **options)
    return flow, api


def rows(n: int) -> list[dict[str, str]]:
    return [{"sku": f"S{i:03}", "word": f"w{i:03}"} for i in range(n)]


def done(flow: Workflow[Any], records: Any, name: str = "r", **options: Any) -> Run[Any]:
    run = flow.start(name, records, unlocked=True, on_duplicate="first", **options)
    run.wait(progress="none")
    return run


def equations(run: Run[Any]) -> Equations:
    return run.reconcile().equations


def billed(api: SimulatedAPI) -> int:
    """Price what the provider charged by its own tokens, model by model, independently of the run."""
    total = 0
    for entry in api.bill().entries():
        usage, rates = entry["usage"], known_price(entry["model"], {}).rates(0, batch=True)
        pico = usage["input_tokens"] * rates.input + usage["output_tokens"] * rates.output
        pico += usage["cache_creation_input_tokens"] * rates.cache_write_5m
        pico += usage["cache_read_input_tokens"] * rates.cache_read
        total += -(-pico // 1_000)
    return total


class TestRows:
    def test_every_record_stands_in_one_bucket(self) -> None:
        """Answers, repeats, keyless records, refusals and errors sum to the records of the source."""
        model = {
            "w001": Answer(text="no"),
            "w002": Answer(text="", stop_reason="refusal"),
            "w003": Answer(kind="errored", error_type="invalid_request_error"),
            "w004": GREEN,
            "w005": Answer(kind="expired"),
        }
        flow, _ = flow_of(model)
        records = [
            *rows(20),
            {"sku": "S000", "word": "w000"},
            {"sku": "", "word": "x"},
            {"sku": "U", "word": "\ud800"},
        ]
        found = equations(done(flow, records))
        buckets = {name: n for name, n in found.rows.buckets.items() if n}
        assert found.hold
        assert found.rows.source == 23
        assert sum(buckets.values()) == 23
        assert buckets == {"succeeded": 15, "errored": 1, "expired": 1, "quarantined": 4, "human_queued": 2}

    def test_open_rows_are_counted(self) -> None:
        """A run that has not ended balances too: what is open is a bucket, what is out is in flight."""
        flow, _ = flow_of({}, max_batch_rows=10)
        run = flow.start("r", rows(25), unlocked=True)
        run.advance()
        found = equations(run)
        assert found.hold
        assert found.rows.buckets["open"] == 25
        assert found.submissions.sent == found.submissions.in_flight > 0
        assert found.submissions.lines == 0
        assert not run.reconcile().balanced

    def test_unchanged_rows_are_counted_and_cost_nothing(self) -> None:
        """What equals the run before is in the sum as unchanged, and its old answer is not paid again."""
        flow, api = flow_of({})
        done(flow, rows(10), "nightly", incremental=True)
        paid = billed(api)
        second = done(flow, [*rows(10), {"sku": "new", "word": "w"}], "nightly", incremental=True)
        found = equations(second)
        assert second.name == "nightly#2"
        assert found.hold
        assert (found.rows.buckets["unchanged"], found.rows.buckets["succeeded"]) == (10, 1)
        assert found.money.usage == billed(api) - paid > 0
        assert found.money.applied == found.money.usage


class TestPeople:
    @pytest.fixture
    def queued(self) -> Run[Any]:
        flow, _ = flow_of({"w001": GREEN, "w002": GREEN, "w003": GREEN})
        return done(flow, rows(6))

    def test_an_answer_moves_one_row_and_no_money(self, queued: Run[Any]) -> None:
        """A person's answer, a refusal and an undo keep all sums; what the model cost stays not accepted."""
        before = equations(queued)
        assert before.rows.buckets["human_queued"] == 3
        queue = queued.queue()
        queue.judge("S001", "answer", by="p", output={"color": "red"})
        queue.judge("S002", "unanswerable", by="p")
        after = equations(queued)
        assert after.hold
        assert (after.rows.buckets["succeeded"], after.rows.buckets["quarantined"]) == (4, 1)
        assert after.money == before.money
        queue.undo("S001", by="p")
        undone = equations(queued)
        assert undone.hold
        assert (undone.rows.buckets["succeeded"], undone.rows.buckets["human_queued"]) == (3, 2)
        assert undone.money == before.money

    def test_a_row_sent_back_is_sent_and_counted_again(self, queued: Run[Any]) -> None:
        """A row sent back to a tier opens the run; its second request is in the sums, and the run balances again."""
        before = equations(queued)
        queued.queue().judge("S001", "send_back", by="p", tier=1)
        assert equations(queued).hold
        assert equations(queued).rows.buckets["open"] == 1
        queued.wait(progress="none")
        after = equations(queued)
        assert after.hold
        assert after.submissions.sent == before.submissions.sent + 1
        assert after.money.not_accepted > before.money.not_accepted

    def test_each_change_has_its_receipt(self, queued: Run[Any], tmp_path: Path) -> None:
        """Every answer that changes the sum makes receipt n + 1, chained to the one before, and the chain verifies."""
        first = queued.reconcile()
        queued.queue().judge("S001", "unanswerable", by="p")
        second = queued.reconcile()
        assert second.receipt()["number"] == first.receipt()["number"] + 1
        assert second.receipt()["previous"] == first.digest
        second.write(tmp_path)
        assert verify(tmp_path)[0] == 0
        assert digest_of((tmp_path / "receipt-1.json").read_bytes()) == first.digest


class TestSubmissions:
    def test_a_refused_batch_was_not_sent(self) -> None:
        """A batch that the provider refused is no submission: its rows count where they went next."""
        rig = Rig(10)
        body = json.dumps(
            {"type": "error", "error": {"type": "rate_limit_error", "message": "later"}}
        ).encode()
        refusals = [
            Response(status=429, headers={"content-type": "application/json", "retry-after": "5"}, body=body)
        ]
        rig.faults.rules.append(
            lambda request, api: refusals.pop() if request.method == "POST" and refusals else None
        )
        rig.finish()
        found = counted(rig)
        assert [batch.state for batch in rig.batches].count(BatchState.REJECTED) == 1
        assert found.hold
        assert (found.submissions.sent, found.submissions.lines) == (10, 10)

    def test_missing_lines_are_declared(self) -> None:
        """Lines that a person accepts as missing stand in the equation as declared missing."""
        rig = Rig(4)
        batch = rig.send().batch
        assert batch is not None
        rig.end(batch.id)
        rig.store.settle(rig.take(), batch.id, [accepted(row.id) for row in rig.rows()[:3]])
        assert counted(rig).submissions.in_flight == 1
        rig.store.move_batch(rig.take(), batch.id, expect=BatchState.ENDED, to=BatchState.HELD)
        closed = accept_missing(rig.store, rig.take(), batch.id, rig.builder, by="p")
        assert closed.state is BatchState.COLLECTED
        found = counted(rig)
        assert found.hold
        assert (found.submissions.lines, found.submissions.missing, found.submissions.in_flight) == (3, 1, 0)

    def test_a_canceled_run_balances(self) -> None:
        """Rows that were never sent, lines that came back canceled and paid answers: all in the sums."""
        flow, api = flow_of({}, max_batch_rows=20, max_in_queue=20)
        run = flow.start("r", rows(60), unlocked=True)
        run.advance()
        run.cancel("enough", by="p")
        run.wait(progress="none")
        found = equations(run)
        assert found.hold
        assert run.reconcile().balanced
        assert found.rows.buckets["canceled"] > 0
        assert found.money.usage == billed(api)


def accepted(row: Any) -> Settled:
    return Settled(row, RowEvent.ACCEPTED, None, 0, 1, 0, None, answer=VALID.encode())


def counted(rig: Rig) -> Equations:
    run = rig.store.runs(name="run")[0]
    return count(rig.store, run, tally=rig.tally)


class TestMoney:
    def test_equals_what_the_provider_charged(self) -> None:
        """Retries, escalations, refusals and all: the run's usage is the provider's bill, priced by its tokens."""
        model = {f"w{n:03}": Answer(text="no") for n in range(5)} | {
            "w006": Answer(text=VALID[:5], stop_reason="max_tokens"),
            "w007": Answer(text="", stop_reason="refusal"),
        }
        flow, api = flow_of(model)
        run = done(flow, rows(30))
        found = equations(run)
        assert found.hold
        assert found.money.usage == billed(api)
        assert 0 < found.money.not_accepted < found.money.usage
        assert found.money.applied + found.money.not_accepted == found.money.usage
        assert found.money.reserved == 0

    def test_a_wrong_ledger_is_seen(self) -> None:
        """Where the two records of the spend differ the equation does not hold, and nothing may be promoted."""
        rig = Rig(3)
        rig.finish()
        found = counted(rig)
        assert found.hold
        for change in ({"batches": found.money.batches + 1}, {"usage": 1}, {"applied": 0}):
            assert not attrs.evolve(found, money=attrs.evolve(found.money, **change)).hold
        assert not attrs.evolve(found, submissions=attrs.evolve(found.submissions, lines=2)).hold
        assert not attrs.evolve(found, rows=attrs.evolve(found.rows, source=4)).hold


class TestPromotions:
    def note(self, **changes: Any) -> bytes:
        base = {"id": "1", "target": "sqlite:c#p", "staged": 5, "written": 4, "unchanged": 1}
        return json.dumps(
            {**base, "conflict": 0, "absent": 0, "held_back": 0, "rolled_back_at": None, **changes}
        ).encode()

    def test_count_once_each_as_noted_last(self) -> None:
        """A promotion noted again after its rollback counts once; the same number in another catalog is another one."""
        rig = Rig(1)
        rig.finish()
        for body in (
            self.note(),
            self.note(rolled_back_at=5.0),
            self.note(target="other"),
            self.note(id="2", written=1, held_back=3),
        ):
            rig.store.append(DocKind.PROMOTION, scope_of(rig.run.id), body)
        found = counted(rig).promotions
        assert [(p.target, p.id, p.rolled_back) for p in found] == [
            ("sqlite:c#p", "1", True),
            ("other", "1", False),
            ("sqlite:c#p", "2", False),
        ]
        assert counted(rig).hold

    def test_one_that_does_not_add_up_is_seen(self) -> None:
        """A promotion whose kinds do not sum to the staged rows breaks the balance."""
        rig = Rig(1)
        rig.finish()
        rig.store.append(DocKind.PROMOTION, scope_of(rig.run.id), self.note(absent=1))
        assert not counted(rig).hold

    def test_again_and_after_a_rollback(self, tmp_path: Path) -> None:
        """Promoting twice is one promotion; promoting again after the rollback is another; the receipt holds both."""
        with sqlite3.connect(tmp_path / "c.db") as catalog:
            catalog.execute("CREATE TABLE p (sku TEXT PRIMARY KEY, color TEXT)")
            catalog.executemany("INSERT INTO p (sku) VALUES (?)", [(f"S{n:03}",) for n in range(4)])
        catalog.close()
        target = SQLiteTarget(tmp_path / "c.db", "p", "sku")
        flow, _ = flow_of({})
        run = done(flow, rows(5))
        first = run.promote(target)
        run.promote(target)
        assert [p.id for p in equations(run).promotions] == ["1"]
        first.rollback()
        run.promote(target)
        found = equations(run)
        assert [p.id for p in found.promotions] == ["1", "2"]
        assert found.hold
        assert (found.promotions[0].written, found.promotions[0].absent) == (4, 1)
        run.reconcile().write(tmp_path / "receipt")
        assert verify(tmp_path / "receipt")[0] == 0


class TestReceipt:
    def test_is_not_issued_again_without_a_change(self) -> None:
        """Counting again finds the same and adds no document."""
        flow, _ = flow_of({})
        run = done(flow, rows(3))
        digests = {run.reconcile().digest for _ in range(3)}
        run.advance()
        assert len(digests) == 1
        assert len(flow.store.docs(DocKind.RECEIPT, scope=scope_of(run.record.id))) == 1

    def test_says_what_ran(self) -> None:
        """Spec, lock, source, parent, children, batches and their digests stand in it."""
        flow, _ = flow_of({"w001": Answer(text="no")})
        run = done(flow, rows(4))
        child = run.rows(keys=["S001"]).rerun("again", unlocked=True)
        child.wait(progress="none")
        content, slice_ = run.reconcile().receipt(), child.reconcile().receipt()
        assert (content["unlocked"], content["lock"], content["spec"]) == (True, None, SPEC.fingerprint)
        assert (content["parent"], content["children"]) == (None, ["again"])
        assert (slice_["parent"], slice_["source"]["rows"]) == ("r", 1)
        assert content["source"]["key"] == "sku"
        assert content["source"]["fields"] == ["word"]
        assert all(batch["results_sha256"] for batch in content["batches"])
        assert (
            sum(batch["requests"] for batch in content["batches"])
            == content["equations"]["submissions"]["sent"]
        )
        assert content["reasons"] == [
            {"outcome": "quarantined", "reason": "output.unparseable", "tier": 1, "rows": 1}
        ]

    def test_a_lock_given_afterwards_does_not_make_it_locked(self) -> None:
        """A run that was started before anybody accepted its spec stays unlocked in every later receipt."""
        flow, _ = flow_of({})
        run = done(flow, rows(2))
        lock = {"by": "p", "at": flow.store.now() + 5, "eval_set_document": "x"}
        flow.store.put(DocKind.LOCK, SPEC.fingerprint, json.dumps(lock).encode())
        later = flow.start("later", rows(2), unlocked=False)
        assert run.reconcile().receipt()["unlocked"] is True
        assert run.reconcile().receipt()["lock"]["by"] == "p"
        flow.clock.sleep(10)
        assert flow.start("last", rows(2)).reconcile().receipt()["unlocked"] is False
        assert later.reconcile().receipt()["unlocked"] is True

    def test_files_are_private_and_stale_ones_go(self, tmp_path: Path) -> None:
        """Files are readable by their owner only, and the chain of another run does not stay behind."""
        flow, _ = flow_of({"w001": GREEN})
        run = done(flow, rows(3))
        run.reconcile()
        (tmp_path / "receipt-7.json").write_text("{}")
        run.reconcile().write(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "receipt.json",
            "rows.jsonl.gz",
            "verify.py",
        ]
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
        assert verify(tmp_path)[0] == 0

    def test_writing_twice_gives_the_same_bytes(self, tmp_path: Path) -> None:
        """The files of an unchanged run are the same, byte for byte."""
        flow, _ = flow_of({})
        run = done(flow, rows(3))
        for name in ("a", "b"):
            run.reconcile().write(tmp_path / name)
        assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {
            p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()
        }

    def test_a_run_that_is_being_moved_is_not_half_counted(self, tmp_path: Path) -> None:
        """Rows that move while they are counted are counted again; where that never ends, nothing is stored."""
        flow, _ = flow_of({})
        run = done(flow, rows(3))
        restless = Restless(flow.store, moves=2)
        assert issue_receipt(restless, run.record).digest == latest_receipt(flow.store, run.record)[0]  # type: ignore[index]
        before = latest_receipt(flow.store, run.record)
        with pytest.raises(StoreError, match="reconcile again"):
            write_receipt(Restless(flow.store, moves=1_000), run.record, tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert latest_receipt(flow.store, run.record) == before


class Restless:
    """A store whose run is moved by somebody else a number of times, each while its rows are being read."""

    def __init__(self, store: Any, *, moves: int) -> None:
        self._store = store
        self._moves = moves

    def __getattr__(self, name: str) -> Any:
        if name == "page" and self._moves:
            self._moves -= 1
            lease = self._store.acquire(self._store.runs(name="r")[0].id, f"other {self._moves}", 60.0)
            self._store.release(lease)
        return getattr(self._store, name)


def test_an_empty_store_counts_nothing() -> None:
    """A run without a record has four sums of nothing, all true."""
    store = SQLiteStore()
    run, _ = store.open_run(NewRun(name="r", spec=SPEC.fingerprint))
    issued = issue_receipt(store, run)
    assert issued.equations.hold
    assert issued.equations.rows.source == 0
    assert store.tally(run.id).in_state(RowState.PENDING) == 0
