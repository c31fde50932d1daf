"""The tables of a PostgreSQL store, and the command that makes them and brings them up to date.

They are the tables of `batchkit.storage.schema`, whose numbers for states, events and reasons they use. Ids that
PostgreSQL would have to hand out one by one are counted per run instead: two runs settle at the same time.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from batchkit.errors import StoreError, StoreHeld
from batchkit.storage.postgres_database import Database, Transaction
from batchkit.storage.postgres_errors import MIGRATE, RIGHTS

IDENTITY: Final = """
    (SELECT system_identifier::text FROM pg_control_system()),
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database())
"""
"""SQL: what tells this database from a copy of it that was restored or cloned on the same server or another."""

_FIRST: Final = """
    CREATE TABLE store (
        id smallint PRIMARY KEY CHECK (id = 1),
        version integer NOT NULL,
        cluster text NOT NULL,
        database bigint NOT NULL
    );
    -- The keys of this table never change, so that each write's new version of the row stays on its page.
    CREATE TABLE run (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text COLLATE "C" NOT NULL UNIQUE,
        spec text NOT NULL,
        parent bigint REFERENCES run (id),
        options text NOT NULL,
        state text NOT NULL,
        rows bigint NOT NULL DEFAULT 0,
        digest text,
        created_at double precision NOT NULL,
        needs text NOT NULL DEFAULT '[]',
        seq bigint NOT NULL DEFAULT 0,
        epoch bigint NOT NULL DEFAULT 0,
        owner text NOT NULL DEFAULT '',
        lease_until double precision NOT NULL DEFAULT 0,
        lease_ttl double precision NOT NULL DEFAULT 0,
        results bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50);
    -- One frozen page: its id is the row id of its first record.
    CREATE TABLE source_page (
        id bigint PRIMARY KEY,
        count integer NOT NULL,
        digest text NOT NULL,
        sizes bytea NOT NULL,
        keys bytea NOT NULL,
        lines bytea NOT NULL
    );
    CREATE TABLE refusal (id bigint PRIMARY KEY, detail text NOT NULL);
    -- The only table that is updated per row. Nothing but the key is indexed, and a page begins with 50 rows, so that
    -- there is room on it for the next version of each: an update leaves no page and touches no index.
    CREATE TABLE row_state (
        id bigint PRIMARY KEY,
        batch bigint,
        result bigint,
        cost bigint NOT NULL,
        state smallint NOT NULL,
        reason smallint NOT NULL,
        tier smallint NOT NULL,
        tries smallint NOT NULL,
        resends smallint NOT NULL,
        answers smallint NOT NULL
    ) WITH (fillfactor = 42);
    -- Append-only; a result's id is the number of its run, and its own number in that. `number` tells which of two runs'
    -- results is the newer one. `reason` to `resends` are the row's values after the event, `verdict` what this line says.
    CREATE TABLE result (
        id bigint PRIMARY KEY,
        number bigint GENERATED ALWAYS AS IDENTITY,
        "row" bigint NOT NULL,
        batch bigint,
        cost bigint NOT NULL,
        input integer,
        output integer,
        cache_write_5m integer,
        cache_write_1h integer,
        cache_read integer,
        model integer NOT NULL,
        by integer NOT NULL,
        event smallint NOT NULL,
        reason smallint NOT NULL,
        tier smallint NOT NULL,
        tries smallint NOT NULL,
        resends smallint NOT NULL,
        verdict smallint NOT NULL,
        detail text NOT NULL,
        answer bytea
    );
    -- Models and people: few texts, named by number in every result.
    CREATE TABLE name (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        text text COLLATE "C" NOT NULL UNIQUE
    );
    CREATE TABLE batch (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        run bigint NOT NULL REFERENCES run (id),
        state text NOT NULL,
        nonce text NOT NULL UNIQUE,
        count integer NOT NULL,
        size bigint NOT NULL,
        base_url text NOT NULL,
        organization text NOT NULL,
        workspace text NOT NULL,
        head_id text,
        head_at double precision,
        reserved bigint NOT NULL,
        deadline double precision NOT NULL,
        created_at double precision NOT NULL,
        spent bigint NOT NULL DEFAULT 0,
        lines integer NOT NULL DEFAULT 0,
        claim text NOT NULL DEFAULT '',
        remote_id text UNIQUE,
        sent_at double precision,
        expires_at double precision,
        held_from text,
        need text,
        notes text NOT NULL DEFAULT '{}'
    ) WITH (fillfactor = 50);
    -- Of a series (its first run), the row that was staged last for each key: hashes, so that a row is narrow.
    CREATE TABLE last_staged (
        series bigint NOT NULL,
        key bigint NOT NULL,
        "row" bigint NOT NULL,
        content bytea NOT NULL,
        PRIMARY KEY (series, key)
    );
    -- Up to which of its results each run of a series has been followed.
    CREATE TABLE series (series bigint NOT NULL, run bigint NOT NULL, until bigint NOT NULL, PRIMARY KEY (series, run));
    CREATE TABLE member (batch bigint PRIMARY KEY REFERENCES batch (id), rows bytea NOT NULL);
    CREATE TABLE stranger (workspace text NOT NULL, id text NOT NULL, PRIMARY KEY (workspace, id));
    CREATE TABLE document (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        digest text NOT NULL,
        at double precision NOT NULL,
        body bytea NOT NULL,
        UNIQUE (kind, key)
    );
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST,)
"""Append-only: the statements that bring a schema from each version to the next."""

VERSION: Final = len(MIGRATIONS)
"""The version of the tables this code reads and writes."""


_HIDDEN: Final = (
    "SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = %s"
    " AND c.relname = 'store' AND NOT has_schema_privilege(n.oid, 'USAGE')"
)
"""SQL: finds a store that the user cannot see, which is not to be taken for none."""


def migrate(database: Database) -> tuple[int, int]:
    """Make the tables, or bring them up to date; give the version before and after.

    Any number of processes may do this at once: one does it, the others find it done.

    Raises:
        StoreError: the user lacks a right.
        StoreHeld: the schema holds another program's tables, or newer ones.
    """
    with database.write() as transaction:
        # Held until the end of this transaction, whatever session a pooler gives to the next.
        number = int.from_bytes(
            sha256(f"batchkit {database.schema}".encode()).digest()[:8], "big", signed=True
        )
        transaction.first("SELECT pg_advisory_xact_lock(%s)", (number,))
        found = _version(transaction, database)
        if found > VERSION:
            raise _newer(database, found)
        for version in range(found, VERSION):
            transaction.script(MIGRATIONS[version])
        if not found:
            transaction.change(f"INSERT INTO store SELECT 1, %s, {IDENTITY}", (VERSION,))
        else:
            transaction.change("UPDATE store SET version = %s", (VERSION,))
    return found, VERSION


def lock_number(schema: str) -> int:
    """Give the number of the lock under which the tables of a schema are changed."""
    return int.from_bytes(sha256(f"batchkit {schema}".encode()).digest()[:8], "big", signed=True)


def check_tables(database: Database) -> None:
    """Make sure that the schema holds the tables of this code.

    Raises:
        StoreError: it holds none, or those of an older version, or the user may not use it.
        StoreHeld: they are of newer code.
    """
    with database.read() as transaction:
        (held,) = transaction.all("SELECT to_regclass('store') IS NOT NULL")[0]
        version = transaction.all("SELECT version FROM store")[0][0] if held else 0
        if not held and transaction.all(_HIDDEN, (database.schema,)):
            raise StoreError(
                f"{database.name}: this user may not use the schema {database.schema}, in which there is a store: "
                f"it lacks rights, {RIGHTS}"
            )
    if version > VERSION:
        raise _newer(database, version)
    if version < VERSION:
        what = f"has tables of version {version}, this code knows {VERSION}" if version else "holds no store"
        raise StoreError(
            f"{database.name}: the schema {database.schema} {what}; bring it up to date: {MIGRATE}"
        )


def _version(transaction: Transaction, database: Database) -> int:
    if not transaction.all("SELECT 1 FROM pg_namespace WHERE nspname = %s", (database.schema,)):
        transaction.script(f'CREATE SCHEMA "{database.schema}"')  # its name has been checked
    if transaction.all("SELECT to_regclass('store') IS NOT NULL")[0][0]:
        return int(transaction.all("SELECT version FROM store")[0][0])
    if transaction.all(
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s LIMIT 1",
        (database.schema,),
    ):
        raise StoreHeld(
            f"{database.name}: the schema {database.schema} holds another program's tables; nothing was changed. "
            "Give the store a schema of its own."
        )
    return 0


def _newer(database: Database, version: int) -> StoreHeld:
    return StoreHeld(
        f"{database.name}: the schema {database.schema} was written by newer code (tables {version}, this code knows "
        f"{VERSION}); nothing in it was changed. Upgrade: pip install -U message-batchkit"
    )
