"""What is PostgreSQL's own: connections that break, several writers, rights, copies, and nothing left on the server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pg import database, empty, url
from pgproxy import Proxy
from psycopg import conninfo

from batchkit.errors import OverBudget, StoreError, StoreHeld, Unresolved, UsageError
from batchkit.ids import Digest, RowId
from batchkit.model import BatchFacts, BatchWhere, DocKind, Intent, NewRun, Settled, Where
from batchkit.states import BatchState, RowEvent, RowState
from batchkit.storage.postgres import PostgresStore
from batchkit.storage.postgres_database import Transaction
from batchkit.storage.postgres_errors import MEANINGS, as_ours
from batchkit.storage.postgres_schema import VERSION, lock_number
from batchkit.testing.faults import Killed, die_in_process, midway
from batchkit.testing.store_contract.base import (
    OTHER_PLACE,
    Opened,
    a_run,
    accepted,
    an_intent,
    an_open_run,
    record,
    the_run,
)

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "postgres.md"


@pytest.fixture
def address(postgres_store: str) -> str:
    """Give the address of a database with an empty store."""
    empty(postgres_store)
    return postgres_store


@pytest.fixture
def store(address: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(address)) as store:
        yield store


@pytest.fixture
def proxy(address: str) -> Iterator[Proxy]:
    with closing(Proxy(address)) as proxy:
        yield proxy


def admin(address: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(address, autocommit=True) as connection:
        found = connection.execute(statement.encode())
        return found.fetchall() if found.description else []


def cut_all(address: str) -> None:
    """End every other session of the database."""
    admin(
        address,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


# Connections that break


def test_a_commit_whose_answer_was_lost_is_looked_up(proxy: Proxy) -> None:
    """Where the connection dies after the server got the COMMIT, the write counts: the method returns as if nothing was."""
    with closing(PostgresStore(proxy.address)) as store:
        opened = a_run(store)
        before = the_run(opened).seq
        proxy.cut = "after"
        assert store.freeze(opened.lease, [record(0)]) == 1
        assert not proxy.armed
        assert (the_run(opened).rows, the_run(opened).seq) == (1, before + 1)
        proxy.cut = "after"
        assert store.append(DocKind.EVENT, "s", b"x") == "s/000000000001"
        assert store.docs(DocKind.EVENT) == [("s/000000000001", b"x")]


def test_a_commit_that_never_arrived_changed_nothing(proxy: Proxy) -> None:
    """Where the connection dies before the server got the COMMIT, the method raises, and doing it again succeeds."""
    with closing(PostgresStore(proxy.address)) as store:
        opened = a_run(store)
        before = the_run(opened).seq
        for write in (
            lambda: store.freeze(opened.lease, [record(0)]),
            lambda: store.append(DocKind.EVENT, "s", b"x"),
        ):
            proxy.cut = "before"
            with pytest.raises(StoreError, match="nothing was changed"):
                write()
            assert not proxy.armed
        assert (the_run(opened).rows, the_run(opened).seq) == (0, before)
        assert store.docs(DocKind.EVENT) == []
        assert store.freeze(opened.lease, [record(0)]) == 1


def test_a_commit_that_nobody_can_ask_about_says_so(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server cannot be reached again, the error says that the write may have landed."""
    import tenacity

    from batchkit.storage import postgres_database

    short = postgres_database._patience.copy(stop=tenacity.stop_after_delay(0.2))
    monkeypatch.setattr(postgres_database, "_patience", short)
    with closing(PostgresStore(proxy.address)) as store:
        proxy.cut, proxy.refuses = "after", True
        with pytest.raises(StoreError, match="nobody could be asked since whether it landed"):
            store.append(DocKind.EVENT, "s", b"x")
        proxy.refuses = False
        assert len(store.docs(DocKind.EVENT)) == 1


def test_a_number_of_another_server_counts_as_not_landed(store: PostgresStore) -> None:
    """A server that took over without the write, and has not reached its number, did not keep it."""
    with store._db.write() as transaction:
        transaction.number = str(int(transaction.number) + 100_000)
    assert store._db._has_landed(transaction) is False


def test_a_committed_transaction_counts_only_with_its_write(store: PostgresStore) -> None:
    """A transaction of that number which is committed, on a server whose run has not reached the write, is another one."""
    opened = a_run(store)
    with store._db.write() as transaction:
        run = store._fence(transaction, opened.lease)
    assert store._db._has_landed(transaction) is True
    transaction.written = (run.id, run.seq + 1)
    assert store._db._has_landed(transaction) is False


def test_an_idle_connection_that_was_cut_is_replaced(store: PostgresStore, address: str) -> None:
    """A store goes on after its idle connections were cut, without an error."""
    opened = a_run(store)
    cut_all(address)
    assert store.freeze(opened.lease, [record(0)]) == 1
    cut_all(address)
    assert the_run(opened).rows == 1


def test_a_connection_cut_in_mid_write_changes_nothing(store: PostgresStore, address: str) -> None:
    """Where the session ends within a transaction, nothing of it stays, and the store goes on."""
    opened = a_run(store)

    def write() -> None:
        with store._db.write() as transaction:
            store._fence(transaction, opened.lease)
            cut_all(address)
            transaction.all("SELECT 1")

    with pytest.raises(StoreError, match="nothing was changed, try again"):
        write()
    assert the_run(opened).seq == opened.run.seq + 1  # taking the lease was one


@pytest.mark.timeout(60, func_only=True)
def test_a_copy_that_is_broken_off_keeps_nobody_waiting(store: PostgresStore) -> None:
    """Ctrl-C while a COPY is not ended undoes the write at once, instead of waiting for the COPY's end for ever."""
    opened = a_run(store)

    def broken_off() -> None:
        with store._db.write() as transaction:
            transaction.script("UPDATE run SET seq = seq + 1")
            copy = transaction._connection.cursor().copy(b"COPY stranger FROM STDIN")
            copy.__enter__()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert store.freeze(opened.lease, [record(0)]) == 1


def test_ctrl_c_just_before_a_commit_leaves_no_transaction(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between a write's last statement and its COMMIT undoes the write: nobody waits for what it had locked."""
    opened = a_run(store)

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store._db, "_commit", pressed)
        with pytest.raises(
            KeyboardInterrupt
        ) as kept:  # what the write had at hand is kept as long as this is
            store.freeze(opened.lease, [record(0)])
    admin(store._db._info, "SET lock_timeout = '2s'; UPDATE batchkit.run SET seq = seq")
    assert store.freeze(opened.lease, [record(0)]) == 1
    assert kept.type is KeyboardInterrupt


@pytest.mark.timeout(20, func_only=True)
def test_ctrl_c_at_the_edges_of_a_block_keeps_nobody_waiting(store: PostgresStore) -> None:
    """Ctrl-C where Python itself enters or leaves the block of a write: the thread's next write waits for no lock of it."""
    opened = a_run(store)
    page = [record(0)]
    store.freeze(opened.lease, page)
    with midway("contextlib") as moments:
        store.freeze(opened.lease, page)
    kept = []
    for at in range(1, moments.count + 1):
        with pytest.raises(Killed) as pressed, midway("contextlib", at, die_in_process):
            store.freeze(opened.lease, page)
        kept.append(pressed)  # and with it what the write had at hand
        assert store.freeze(opened.lease, page) == 1
    assert moments.count > 10
    assert not store._db._writers


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """An address that nobody answers raises StoreError with its place, at once and without the password."""
    with pytest.raises(StoreError, match=r"jobs on .*cannot be reached") as caught:
        PostgresStore(f"postgresql://ada:hush@/jobs?host={tmp_path}")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"user": "nobody_here"}, "refused this user"), ({"dbname": "none_here"}, "make it first")],
)
def test_a_login_that_is_refused(postgres: str, wrong: dict[str, str], told: str) -> None:
    """A role or a database that is not there is named as that, not as a server to be asked again."""
    with pytest.raises(StoreError, match=told) as caught:
        PostgresStore(conninfo.make_conninfo(postgres, **wrong))
    assert "try again" not in str(caught.value)


@pytest.mark.parametrize("address", ["postgresql://ada:hush@/x?nope=1", "host=a pass word=hush"])
def test_an_address_that_is_none(address: str) -> None:
    """What is no address is refused without showing it."""
    with pytest.raises(UsageError) as caught:
        PostgresStore(address)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Jobs", "1st", 'a"b', "a; drop schema x", "a" * 64])
def test_a_schema_has_a_plain_name(name: str) -> None:
    """A schema's name that is no plain identifier is refused before anything is sent."""
    with pytest.raises(UsageError, match="schema"):
        PostgresStore("host=nowhere.invalid", schema=name)


# Tables


def test_missing_tables_name_the_command(postgres: str) -> None:
    """Without tables nothing is made; the error names the command that makes them."""
    with pytest.raises(StoreError, match="python -m batchkit migrate"):
        PostgresStore(postgres)
    assert admin(postgres, "SELECT count(*) FROM pg_namespace WHERE nspname = 'batchkit'") == [(0,)]


def test_processes_that_migrate_at_once(postgres: str) -> None:
    """Of two processes that migrate at once one makes the tables, and both succeed."""
    command = [sys.executable, "-m", "batchkit", "migrate", url(postgres)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with ExitStack() as crew, psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (lock_number("batchkit"),))
        processes = [
            crew.enter_context(
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                )
            )
            for _ in range(2)
        ]
        while connection.execute(waiting.encode()).fetchone() != (2,):
            assert [process.poll() for process in processes] == [None, None]
            time.sleep(0.02)
        connection.execute("SELECT pg_advisory_unlock_all()")
        told = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert sum("were made" in text for text in told) == 1
    assert sum("up to date" in text for text in told) == 1
    with closing(PostgresStore(postgres, migrate=True)) as store:
        assert store.runs() == []


def test_newer_tables_are_left_alone(postgres: str) -> None:
    """Tables of newer code are neither read nor migrated."""
    PostgresStore(postgres, migrate=True).close()
    admin(postgres, f"UPDATE batchkit.store SET version = {VERSION + 1}")
    for migrate in (False, True):
        with pytest.raises(StoreHeld, match="newer code"):
            PostgresStore(postgres, migrate=migrate)


def test_older_tables_name_the_command(postgres: str) -> None:
    """Tables of an older version are not read; the error names the command that updates them."""
    PostgresStore(postgres, migrate=True).close()
    admin(postgres, "UPDATE batchkit.store SET version = 0")
    with pytest.raises(StoreError, match="python -m batchkit migrate"):
        PostgresStore(postgres)


def test_a_schema_of_another_program_is_left_alone(postgres: str) -> None:
    """A schema that holds other tables gets none of the store's."""
    admin(postgres, "CREATE SCHEMA batchkit; CREATE TABLE batchkit.customer (id integer)")
    with pytest.raises(StoreHeld, match="another program"):
        PostgresStore(postgres, migrate=True)
    assert admin(postgres, "SELECT count(*) FROM pg_tables WHERE schemaname = 'batchkit'") == [(1,)]


def test_schemas_are_stores_apart(postgres: str) -> None:
    """Two schemas of one database hold two stores."""
    with (
        closing(PostgresStore(postgres, schema="one", migrate=True)) as one,
        closing(PostgresStore(postgres, schema="two", migrate=True)) as two,
    ):
        a_run(one)
        assert len(one.runs()) == 1
        assert two.runs() == []


def test_the_rights_of_the_how_to_suffice(postgres: str) -> None:
    """A user with the rights that the how-to grants does everything but change the tables."""
    [script] = re.findall(r"```sql\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
    name = conninfo.conninfo_to_dict(postgres)["dbname"]
    role = f"worker_{name}"
    owner = f"owner_{name}"
    script = (
        script.replace("batchkit_worker", role).replace("batchkit_owner", owner).replace("jobs", str(name))
    )
    before, after = script.split("-- after the migration\n")
    try:
        admin(postgres, before)
        PostgresStore(conninfo.make_conninfo(postgres, user=owner), migrate=True).close()
        with pytest.raises(StoreError, match=r"lacks rights, docs/how-to/postgres\.md"):
            PostgresStore(conninfo.make_conninfo(postgres, user=role))
        admin(postgres, after)
        with closing(PostgresStore(conninfo.make_conninfo(postgres, user=role))) as store:
            opened = an_open_run(store, 3)
            batch = opened.live([0, 1, 2])
            store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids([0, 1])])
            assert store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids([1])]).ignored
            store.dismiss("w", [])
            store.append(DocKind.EVENT, "s", b"x")
            store.index_staged(a_run(store, "next").lease, [opened.run.id])
            with pytest.raises(StoreError, match="lacks a right"), store._db.write() as transaction:
                transaction.script("CREATE TABLE batchkit.more (id integer)")
            with pytest.raises(StoreError, match="lacks a right"):
                PostgresStore(conninfo.make_conninfo(postgres, user=role), schema="other", migrate=True)
    finally:
        admin(postgres, f"DROP OWNED BY {owner}, {role}; DROP ROLE {owner}, {role}")


def test_nothing_is_left_on_the_server(store: PostgresStore) -> None:
    """After any transaction its session is as new: no setting, prepared statement, cursor, lock or temporary table."""
    opened = an_open_run(store, 3)
    batch = opened.live([0, 1, 2])
    for _ in range(8):  # the driver would prepare what it sees again and again
        store.rows(opened.ids([0]), source=True, results=True)
    store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids([0, 1])])
    [connection] = store._db._idle
    for left in (
        "SELECT name FROM pg_prepared_statements",
        "SELECT name FROM pg_cursors WHERE name <> ''",
        "SELECT locktype FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
        "SELECT relname FROM pg_class WHERE relpersistence = 't'",
        "SELECT name FROM pg_settings WHERE source = 'session' AND name NOT IN ('client_encoding', 'application_name')",
    ):
        assert connection.execute(left.encode()).fetchall() == [], left


def test_updates_of_rows_stay_on_their_page(store: PostgresStore, address: str) -> None:
    """Rows that are taken and settled, whole pages of them at a time, are updated without touching an index or another page."""
    admin(address, "SELECT pg_stat_reset_single_table_counters('batchkit.row_state'::regclass)")
    opened = an_open_run(store, 500)
    batch = opened.live(range(500))
    # The server itself makes room, as it finds it needed; but not while transactions of other tests are older.
    admin(address, "VACUUM batchkit.row_state")
    store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids(range(500))])
    store.close()
    updates = admin(
        address, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'row_state'"
    )
    assert updates == [(1_000, 1_000)]


@pytest.mark.parametrize("asked", [Where(), Where(answers=True), Where(results=True)])
def test_a_page_is_found_along_the_keys(
    store: PostgresStore, asked: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of rows is read along the keys of its tables, none of which is read whole, whatever the planner knows of them."""
    opened = an_open_run(store, 20)
    batch = opened.live(range(10))
    store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids(range(10))])
    plans: list[str] = []
    real = Transaction.all

    def explained(self: Transaction, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        if "FROM row_state s" in statement:
            plans.append("\n".join(line for (line,) in real(self, f"EXPLAIN {statement}", values)))
        return real(self, statement, values)

    monkeypatch.setattr(Transaction, "all", explained)
    assert len(store.page(opened.run.id, asked)) == 20
    assert plans
    assert "Index Scan using row_state_pkey" in plans[-1]
    assert "Seq Scan" not in plans[-1]


def test_answers_find_their_rows_along_the_key(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many results the planner expects in a page, it reads the rows that the page names and no others."""
    plans: list[str] = []
    real = Transaction.change

    def explained(self: Transaction, statement: str, values: Any = ()) -> int:
        if "UPDATE row_state s SET state = CASE" in " ".join(statement.split()):
            plans.append("\n".join(line for (line,) in self.all(f"EXPLAIN {statement}", values)))
        return real(self, statement, values)

    # Of a table of millions that was never analyzed it expects so many that it leaves this kind of join by itself.
    expecting = conninfo.make_conninfo(address, options="-c enable_nestloop=off")
    with closing(PostgresStore(expecting)) as store:
        opened = an_open_run(store, 5_000)
        batch = opened.live(range(5))
        monkeypatch.setattr(Transaction, "change", explained)
        applied = store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids(range(5))])
    assert applied.applied == 5
    assert len(plans) == 1
    assert "Index Cond: (id = ANY" in plans[0]
    assert "Seq Scan on row_state" not in plans[0]


def test_answers_that_changed_nothing_are_taken_back_along_the_keys(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To take back the answers of a page that were not applied, the rows of that page are read and no others."""
    plans: list[str] = []
    real = Transaction.all

    def explained(self: Transaction, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        if "DELETE FROM result" in statement:
            plans.append("\n".join(line for (line,) in real(self, f"EXPLAIN {statement}", values)))
        return real(self, statement, values)

    expecting = conninfo.make_conninfo(address, options="-c enable_nestloop=off")
    with closing(PostgresStore(expecting)) as store:
        opened = an_open_run(store, 5_000)
        batch = opened.live(range(5))
        page = [accepted(row) for row in opened.ids(range(5))]
        store.settle(opened.lease, batch.id, page[:2])
        monkeypatch.setattr(Transaction, "all", explained)
        applied = store.settle(opened.lease, batch.id, page)
    assert (applied.applied, len(applied.ignored)) == (3, 2)
    assert len(plans) == 1
    assert "Index Cond: (id = ANY" in plans[0]
    assert "Seq Scan on row_state" not in plans[0]  # of results there are too few for an index


def test_writes_wait_for_the_disk(address: str) -> None:
    """A write is on disk before it returns, also where the user's sessions do not wait for that."""
    careless = conninfo.make_conninfo(address, options="-c synchronous_commit=off")
    with closing(PostgresStore(careless)) as store, store._db.write() as transaction:
        assert transaction.all("SHOW synchronous_commit") == [("on",)]


def test_the_servers_clock_counts(store: PostgresStore) -> None:
    """A lease runs by the server's clock, whatever the machine's says."""
    opened = a_run(store)
    [(now,)] = admin(store._db._info, "SELECT extract(epoch FROM clock_timestamp())::float8")
    assert isinstance(now, float)
    assert opened.lease.until == pytest.approx(now + 60, abs=5)
    assert store.now() == pytest.approx(now, abs=5)


# Several writers


def at_once(*actions: Callable[[], object]) -> list[object]:
    """Do things at the same time, each in a thread; give what each returned or raised."""
    ready = threading.Barrier(len(actions))
    results: list[object] = [None] * len(actions)

    def act(n: int, action: Callable[[], object]) -> None:
        ready.wait()
        try:
            results[n] = action()
        except Exception as error:
            results[n] = error

    threads = [threading.Thread(target=act, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def intends(opened: Opened, intent: Intent) -> Callable[[], object]:
    return lambda: opened.intend([0], intent)


def test_of_two_intents_in_one_place_one_is_made(store: PostgresStore) -> None:
    """Runs that make a batch in one place at the same moment get one batch and one refusal."""
    crew = [an_open_run(store, 2, f"run-{n}") for n in range(4)]
    results = at_once(*(intends(one, an_intent(f"aaaaaaa{n}")) for n, one in enumerate(crew)))
    assert sum(isinstance(result, Unresolved) for result in results) == 3
    assert len(store.batches(BatchWhere())) == 1


def test_the_cap_holds_for_intents_at_once(store: PostgresStore) -> None:
    """Runs that reserve at the same moment, in different places, do not exceed the cap together."""
    first, second = an_open_run(store, 2, "a"), an_open_run(store, 2, "b")
    results = at_once(
        intends(first, an_intent("aaaaaaaa", reserve=60, cap=100)),
        intends(second, an_intent("bbbbbbbb", reserve=60, cap=100, place=OTHER_PLACE)),
    )
    assert sum(isinstance(result, OverBudget) for result in results) == 1
    assert sum(batch.reserved for batch in store.batches(BatchWhere())) == 60


def test_appends_at_once_get_numbers_of_their_own(store: PostgresStore) -> None:
    """Documents appended to one scope at the same moment have all numbers from one upwards, each once."""
    results = at_once(
        *(lambda n=n: [store.append(DocKind.EVENT, "s", f"{n}".encode()) for _ in range(5)] for n in range(6))
    )
    assert all(isinstance(result, list) for result in results), results
    keys = [key for key, _ in store.docs(DocKind.EVENT, scope="s")]
    assert keys == [f"s/{n:012d}" for n in range(1, 31)]


def test_one_name_opened_at_once_is_one_run(store: PostgresStore) -> None:
    """Processes that open one name at the same moment get the same run, one of them a new one."""
    new = NewRun(name="nightly", spec=Digest("ab" * 32))
    results = at_once(*(lambda: store.open_run(new) for _ in range(4)))
    assert sorted(result[1] for result in results if isinstance(result, tuple)) == [False, False, False, True]
    assert len(store.runs()) == 1


def test_runs_settle_at_once(store: PostgresStore) -> None:
    """Two runs settle at the same moment, with names that are new to both; each has its own results in order."""
    crew = [an_open_run(store, 200, f"run-{n}") for n in range(2)]
    batches = [one.live(range(200), f"aaaaaaa{n}") for n, one in enumerate(crew)]

    def settles(n: int) -> object:
        opened = crew[n]
        for low in range(0, 200, 20):
            page = [
                accepted(row)._replace(model=f"model-{(row + n) % 7}")
                for row in opened.ids(range(low, low + 20))
            ]
            store.settle(opened.lease, batches[n].id, page, by="Ada")
        return None

    assert at_once(lambda: settles(0), lambda: settles(1)) == [None, None]
    for n, opened in enumerate(crew):
        results = store.results(opened.run.id)
        assert [r.row for r in results] == opened.ids(range(200))
        assert [r.model for r in results] == [f"model-{(r.row + n) % 7}" for r in results]


def test_readers_and_writers_do_not_wait_for_each_other(store: PostgresStore) -> None:
    """While one thread is in the middle of a write, another reads the state before it."""
    opened = a_run(store)
    with store._db.write() as transaction:
        store._fence(transaction, opened.lease)
        [seen] = at_once(lambda: the_run(opened).seq)
    assert seen == opened.run.seq + 1
    assert the_run(opened).seq == opened.run.seq + 2


def test_a_fork_is_refused(store: PostgresStore) -> None:
    """A forked child is told to open the store again, and its end leaves the parent's connections alone."""
    opened = a_run(store)
    child = os.fork()
    if not child:
        try:
            store.runs()
        except StoreError as error:
            store.close()
            os._exit(0 if "fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert the_run(opened).rows == 0


# Texts


def test_what_a_text_cannot_hold_becomes_an_escape(store: PostgresStore) -> None:
    """NUL and half a surrogate pair in details and names are kept as escapes; an answer keeps every byte."""
    opened = an_open_run(store, 2)
    batch = opened.live([0, 1])
    odd = "a\0b\ud800é"
    page = [accepted(row)._replace(detail=odd, model=odd, answer=b"\0\xff") for row in opened.ids([0, 1])]
    assert store.settle(opened.lease, batch.id, page, by=odd).applied == 2
    result = store.results(opened.run.id)[0]
    assert (result.detail, result.model, result.by) == ("a\\x00b\\ud800é",) * 3
    assert result.answer == b"\0\xff"
    with pytest.raises(StoreError, match="NUL"):
        store.put(DocKind.RECEIPT, "a\0b", b"")


def test_keys_are_in_order_of_their_bytes_in_any_database(store: PostgresStore) -> None:
    """Documents are in order of the bytes of their keys, whatever the database sorts by."""
    keys = ["B", "a", "a-", "a/", "a0", "z", "ä"]
    for key in reversed(keys):
        store.put(DocKind.RECEIPT, key, b"")
    assert [key for key, _ in store.docs(DocKind.RECEIPT)] == keys
    [(collations,)] = admin(
        store._db._info,
        "SELECT array_agg(DISTINCT collation_name::text) FROM information_schema.columns "
        "WHERE table_schema = 'batchkit' AND (table_name, column_name) IN (('document', 'key'), ('run', 'name'))",
    )
    assert collations == ["C"]


# Copies


def test_a_copied_database_is_held(address: str, postgres_server: str) -> None:
    """A copy can be read, but makes and claims no batch until a person confirms it; then what may have been sent is in doubt."""
    with closing(PostgresStore(address)) as store:
        opened = an_open_run(store, 4)
        batch = opened.intend([0])
    with database(postgres_server, template=address) as copied, closing(PostgresStore(copied)) as copy:
        assert "another database" in copy.held()
        there = Opened(store=copy, run=opened.run, lease=opened.lease)
        with pytest.raises(StoreHeld, match="confirm"):
            there.intend([1], an_intent("bbbbbbbb", place=OTHER_PLACE))
        with pytest.raises(StoreHeld, match="confirm"):
            there.move(batch, BatchState.INTENT, BatchState.SENDING)
        assert copy.tally(opened.run.id).in_state(RowState.SUBMITTED) == 1
        copy.confirm()
        assert copy.held() == ""
        assert [one.state for one in copy.batches(BatchWhere())] == [BatchState.DOUBTFUL]
        lease = copy.acquire(opened.run.id, "me", 60)
        assert lease is not None
        again = Opened(store=copy, run=opened.run, lease=lease)
        assert again.intend([1], an_intent("bbbbbbbb", place=OTHER_PLACE)).state is BatchState.INTENT
        with closing(PostgresStore(copied)) as later:
            assert later.held() == ""
    with closing(PostgresStore(address)) as store:
        assert store.held() == ""
        store.confirm()  # does nothing
        assert [one.state for one in store.batches(BatchWhere())] == [BatchState.INTENT]


def test_a_dump_on_another_server_is_held(address: str) -> None:
    """A store that says it was made on another server is held."""
    admin(address, "UPDATE batchkit.store SET cluster = '7'")
    try:
        with closing(PostgresStore(address)) as store:
            assert "another server" in store.held()
            store.confirm()
    finally:
        with closing(PostgresStore(address)) as store:
            assert store.held() == ""


# Errors


@pytest.mark.parametrize("code", [*MEANINGS, "08006", "57P01", "53100", "28P01", "XX000"])
def test_each_error_has_a_meaning(code: str) -> None:
    """Every SQLSTATE becomes a StoreError that tells what it means, and keeps the server's first line."""
    error = type("Coded", (psycopg.OperationalError,), {"sqlstate": code})("first line\nsecond")
    told = str(as_ours(error, "jobs on db.test", "batchkit"))
    expected = MEANINGS.get(code) or MEANINGS.get(code[:3]) or MEANINGS.get(code[:2]) or "nothing was changed"
    assert expected in told
    assert "(first line)" in told
    assert "second" not in told
    assert told.startswith("jobs on db.test")


def test_a_lock_that_is_kept_is_an_error(
    store: PostgresStore, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that waits too long for another's lock raises and changes nothing."""
    opened = a_run(store)
    monkeypatch.setattr(
        store._db, "_write", store._db._write.replace(b"lock_timeout = '30s'", b"lock_timeout = '50ms'")
    )
    with psycopg.connect(address) as other:
        other.execute("SELECT * FROM batchkit.run FOR UPDATE")
        with pytest.raises(StoreError, match="kept the rows locked; nothing was changed"):
            store.freeze(opened.lease, [record(0)])
    assert store.freeze(opened.lease, [record(0)]) == 1


def test_moves_under_a_person_leave_the_rows(store: PostgresStore) -> None:
    """A settle whose update finds nothing takes its results back and leaves the count of results as it was."""
    opened = an_open_run(store, 3)
    batch = opened.live([0])
    pending = [RowId(row) for row in opened.ids([1, 2])]
    page = [accepted(row) for row in pending]
    for _ in range(2):
        assert store.settle(opened.lease, batch.id, page).ignored == tuple(pending)
    assert store.results(opened.run.id) == []
    canceled = Settled(pending[0], RowEvent.RUN_CANCELED, None, 0, 0, 0)
    assert store.settle(opened.lease, None, [canceled]).applied == 1
    assert len(store.results(opened.run.id)) == 1
    store.move_batch(opened.lease, batch.id, expect=BatchState.LIVE, to=BatchState.LIVE, facts=BatchFacts())
