"""What promotion to PostgreSQL costs, beside the bare statements that do the same without keeping a promise.

    python benchmarks/promote.py [--rows 600000] [--only columns,overlay]

A server from PyPI is started (group ``tests``), or ``BATCHKIT_TEST_POSTGRES`` names one. Beside each step a
second session changes one random row at a time: the longest that it waited is the stall.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from pg import Server, database

from batchkit.ids import Digest
from batchkit.targets import Note, StagedRow
from batchkit.targets.postgres import PostgresTarget

FIELDS = ("category", "features", "summary")


def rows(count: int, version: int) -> Iterator[StagedRow]:
    for n in range(count):
        yield StagedRow(
            f"sku-{n:07d}",
            {
                "category": f"Category {(n + version) % 40}",
                "features": [f"feature {n % 97}", f"feature {n % 89}", "wireless"],
                "summary": f"Version {version} of a sentence about product {n}, which is what it is.",
            },
            {},
        )


def make(address: str, count: int) -> None:
    with psycopg.connect(address, autocommit=True) as db:
        db.execute("DROP TABLE IF EXISTS products, bare_before CASCADE")
        db.execute("DROP SCHEMA IF EXISTS batchkit_catalog CASCADE")
        db.execute(
            "CREATE TABLE products (sku text PRIMARY KEY, title text, description text, category text,"
            " features text[], summary text, price numeric, touched int NOT NULL DEFAULT 0)"
        )
        db.execute(
            "INSERT INTO products SELECT 'sku-' || lpad(n::text, 7, '0'), 'Title of product ' || n,"
            " repeat('A description of product ' || n || '. ', 8), 'Category ' || n %% 40, ARRAY['old'], 'old', n"
            " FROM generate_series(0, %s - 1) AS n",
            (count,),
        )
        db.execute("CREATE INDEX products_category ON products (category)")
        db.execute("VACUUM ANALYZE products")
        db.execute("CHECKPOINT")


def write_beside(address: str, relation: str, count: int, stop: Any, out: Any, ready: Any) -> None:
    """Change one random row after the other, and give the longest that one took and how many there were."""
    longest, done = 0.0, 0
    chance = random.Random(1)
    with psycopg.connect(address, autocommit=True) as db:
        while not stop.is_set():
            key = f"sku-{chance.randrange(count):07d}"
            began = time.perf_counter()
            db.execute(f"UPDATE {relation} SET touched = touched + 1 WHERE sku = %s", (key,))  # type: ignore[call-overload]
            ready.set()
            longest, done = max(longest, time.perf_counter() - began), done + 1
            time.sleep(0.005)
    out.put((longest, done))


def watch_locks(address: str, stop: Any, out: Any) -> None:
    """Note which locks anybody holds on the catalog's table, beside those of the writer."""
    seen: set[str] = set()
    with psycopg.connect(address, autocommit=True) as db:
        while not stop.is_set():
            seen.update(
                row[0]
                for row in db.execute(
                    "SELECT l.mode FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
                    " WHERE l.locktype = 'relation' AND l.relation = 'products'::regclass AND a.application_name = 'batchkit'"
                )
            )
            time.sleep(0.01)
    out.put(sorted(seen))


@contextmanager
def beside(address: str, relation: str, count: int, facts: dict[str, Any]) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    ready, stop, wrote, locks = context.Event(), context.Event(), context.Queue(), context.Queue()
    helpers = [
        context.Process(target=write_beside, args=(address, relation, count, stop, wrote, ready)),
        context.Process(target=watch_locks, args=(address, stop, locks)),
    ]
    for helper in helpers:
        helper.start()
    ready.wait(60)
    try:
        yield
    finally:
        stop.set()
        stall, writes = wrote.get(timeout=60)
        facts.update(stall_ms=round(stall * 1000, 1), writes_beside=writes, locks=locks.get(timeout=60))
        for helper in helpers:
            helper.join()


def measured(
    address: str,
    name: str,
    act: Callable[[], Any],
    *,
    count: int,
    relation: str = "products",
    alone: bool = False,
) -> dict[str, Any]:
    facts: dict[str, Any] = {"step": name}

    def timed() -> None:
        with psycopg.connect(address, autocommit=True) as db:
            db.execute("CHECKPOINT")
            (before,) = db.execute("SELECT pg_current_wal_lsn()::text").fetchone() or ("",)
            began = time.perf_counter()
            act()
            facts["seconds"] = round(time.perf_counter() - began, 2)
            (wal,) = db.execute(
                "SELECT (pg_current_wal_lsn() - %s::pg_lsn)::bigint", (before,)
            ).fetchone() or (0,)
            facts["wal_mb"] = round(wal / 1e6)

    if alone:
        timed()
    else:
        with beside(address, relation, count, facts):
            timed()
    print(json.dumps(facts), flush=True)
    return facts


def bare_promote(address: str, count: int) -> None:
    """What anybody would write: COPY to a temporary table, keep what stands there, UPDATE … FROM."""
    with psycopg.connect(address) as db, db.cursor() as cursor:
        cursor.execute(
            "CREATE TEMP TABLE new (sku text, category text, features text[], summary text) ON COMMIT DROP"
        )
        with cursor.copy("COPY new FROM STDIN") as copy:
            for row in rows(count, 1):
                values = row.values or {}
                copy.write_row((row.key, values["category"], values["features"], values["summary"]))
        cursor.execute("ANALYZE new")
        cursor.execute(
            "CREATE TABLE bare_before AS SELECT p.sku, p.category, p.features, p.summary FROM products AS p JOIN new USING (sku)"
        )
        cursor.execute(
            "UPDATE products AS p SET category = n.category, features = n.features, summary = n.summary"
            " FROM new AS n WHERE n.sku = p.sku"
        )


def bare_rollback(address: str) -> None:
    with psycopg.connect(address) as db:
        db.execute("ANALYZE bare_before")
        db.execute(
            "UPDATE products AS p SET category = b.category, features = b.features, summary = b.summary"
            " FROM bare_before AS b WHERE b.sku = p.sku"
        )


def note(version: int) -> Note:
    digest = Digest(hashlib.sha256(str(version).encode()).hexdigest())
    return Note(run="bench", receipt=digest, content=digest, fields=FIELDS)


def kept(address: str) -> int:
    """Give the bytes of all that is kept beside the catalog, indexes included, so that it can be undone."""
    with psycopg.connect(address) as db:
        [size] = db.execute(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'batchkit_catalog'::regnamespace"
        ).fetchone() or (0,)
    return int(size)


class Timed(psycopg.Connection[Any]):
    """Notes how long the last transaction took, from its BEGIN to the end of its COMMIT."""

    began = 0.0
    last = 0.0

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        if str(query).startswith("BEGIN"):
            Timed.began = time.perf_counter()
        result = super().execute(query, *args, **options)
        if query == "COMMIT":
            Timed.last = time.perf_counter() - Timed.began
        return result


def compare(address: str, name: str, count: int, *, alone: bool) -> None:
    make(address, count)
    how = "alone" if alone else "beside a writer"
    if name == "bare":
        measured(
            address, f"bare: promote, {how}", lambda: bare_promote(address, count), count=count, alone=alone
        )
        measured(address, f"bare: rollback, {how}", lambda: bare_rollback(address), count=count, alone=alone)
        return
    columns = {field: field for field in FIELDS}
    target = PostgresTarget(address, "products", "sku", columns=columns, strategy=name)  # type: ignore[arg-type]
    target.install()
    connect = psycopg.connect
    for step, act in (
        ("promote", lambda: target.promote(note(1), rows(count, 1))),
        ("rollback", target.rollback),
    ):

        def timed(act: Callable[[], Any] = act) -> None:
            psycopg.connect = Timed.connect
            try:
                act()
            finally:
                psycopg.connect = connect

        measured(address, f"{name}: {step}, {how}", timed, count=count, alone=alone)
        facts = {
            "last_transaction_ms": round(Timed.last * 1000, 1),
            "kept_bytes_a_row": kept(address) // count,
        }
        print(json.dumps({"step": f"{name}: {step}, {how}", **facts}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=600_000)
    parser.add_argument("--only", default="bare,columns,overlay")
    given = parser.parse_args()
    count, only = given.rows, given.only.split(",")
    with Server(durable=True) as server, database(server) as address:
        for name in [name for name in ("bare", "columns", "overlay") if name in only]:
            for alone in (True, False):
                compare(address, name, count, alone=alone)


if __name__ == "__main__":
    main()
