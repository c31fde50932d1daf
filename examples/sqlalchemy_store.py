"""A store of one's own: on SQLAlchemy Core, so on whatever database your team runs.

`KeyValueStore` is the whole store over an ordered map of bytes. Here is the map, as one table, and what a transaction
is: a write begins by updating the one row of a second table, where whoever else writes waits; a read sees one state
from its first statement to its last. Unlike batchkit's own stores this one does not notice that it was copied or restored.
"""

from contextlib import contextmanager

import sqlalchemy as sa

from batchkit.errors import StoreError
from batchkit.storage.keyvalue import KeyValueStore

META = sa.MetaData()
ENTRY = sa.Table(
    "batchkit_entry",
    META,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
LOCK = sa.Table(
    "batchkit_lock",
    META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("writes", sa.BigInteger, nullable=False),
)


class Entries:
    """The map within one transaction: four statements."""

    def __init__(self, connection):
        self._connection = connection

    def get(self, keys):
        found = self._connection.execute(sa.select(ENTRY).where(ENTRY.c.key.in_(keys)))
        return {bytes(key): bytes(value) for key, value in found}

    def scan(self, low, high, limit):
        asked = sa.select(ENTRY).where(ENTRY.c.key >= low, ENTRY.c.key < high)
        found = self._connection.execute(asked.order_by(ENTRY.c.key).limit(limit))
        return [(bytes(key), bytes(value)) for key, value in found]

    def put(self, items):
        # Every database spells "insert or update" in its own way; all of them have these two.
        self._connection.execute(sa.delete(ENTRY).where(ENTRY.c.key.in_(list(items))))
        rows = [{"key": key, "value": value} for key, value in items.items()]
        self._connection.execute(sa.insert(ENTRY), rows)

    def delete(self, low, high):
        self._connection.execute(sa.delete(ENTRY).where(ENTRY.c.key >= low, ENTRY.c.key < high))


class SQLAlchemyStore(KeyValueStore):
    def __init__(self, engine, *, clock=None):
        super().__init__(clock=clock)
        self._engine = engine
        # One state for all statements of a read. A write holds the lock, and so reads what is newest.
        self._reading = engine.execution_options(isolation_level="SERIALIZABLE")
        META.create_all(engine)
        with engine.begin() as connection:
            if connection.scalar(sa.select(LOCK.c.id)) is None:
                connection.execute(sa.insert(LOCK).values(id=1, writes=0))

    @contextmanager
    def transaction(self, *, write):
        try:
            with (self._engine if write else self._reading).begin() as connection:
                if connection.dialect.name == "sqlite":
                    # Python's driver begins only where something is written.
                    connection.exec_driver_sql("BEGIN")
                if write:
                    connection.execute(sa.update(LOCK).values(writes=LOCK.c.writes + 1))
                yield Entries(connection)
        except sa.exc.SQLAlchemyError as error:
            # The driver's own message: SQLAlchemy's shows the values, answers among them.
            cause = getattr(error, "orig", None) or error
            raise StoreError(f"the database failed ({cause})") from error

    def dispose(self):
        self._engine.dispose()
