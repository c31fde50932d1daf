"""Notices that a store was copied, restored or moved to another machine, before it can pay twice.

Beside the database stands ``NAME.guard`` (mode 0600): the highest write number seen, the file's inode
and the host. A copy has another inode, an old backup a lower number, another machine another name. Such
a store can be read, but makes and claims no batch until a person confirms that it alone goes on.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from batchkit.errors import StoreError, StoreHeld

_FIX: Final = (
    "Reading works; no batch is made or sent until you confirm that no other copy of this store goes on: "
    "flow.store.confirm(), or python -m batchkit confirm STORE. Where it was deleted to begin anew, the same. Batches that may have been sent by the other copy are then looked up before anything is sent again."
)


class _Seen(NamedTuple):
    seq: int
    inode: int
    host: str


class Guard:
    """The guard of one database file; of a memory store it guards nothing.

    Args:
        database: the database's file, or None for a store in memory.
        seq: gives the number of writes the database knows of; asked only after the guard file was read, so
            that another process' write in between cannot make the database look old.
        host: the machine's name; None asks the machine.

    Raises:
        StoreError: the guard file cannot be read or written.
    """

    def __init__(self, database: Path | None, seq: Callable[[], int], host: str | None = None) -> None:
        self._database = database
        self._host = host or socket.gethostname()
        self._inode = 0 if database is None else database.stat().st_ino
        self._unsaved: int | None = None
        self.why: str = "" if database is None else self._compare(seq)

    @property
    def path(self) -> Path | None:
        """Give the guard's own file."""
        return self._database and _beside(self._database)

    def check(self) -> None:
        """Make sure that this store may send.

        Raises:
            StoreHeld: it looks copied or restored and nobody confirmed it, or its file was replaced.
            StoreError: the guard file could not be written after the last send, and still cannot.
        """
        if self.why:
            raise StoreHeld(f"{self._database}: {self.why}. {_FIX}")
        if self._database is None:
            return
        try:
            inode = self._database.stat().st_ino
        except OSError:
            inode = -1
        if inode != self._inode:
            raise StoreHeld(
                f"{self._database} was moved away or replaced while it was open; nothing was sent. "
                "Put the file back, or open the store again."
            )
        if self._unsaved is not None:
            self.save(self._unsaved)

    def note(self, seq: int) -> None:
        """Remember a write that a backup must not undo. A failure is reported by the next `check`."""
        if self.why:
            return
        try:
            self.save(seq)
        except StoreError:
            self._unsaved = seq

    def confirm(self, seq: int) -> None:
        """Take the database as it is now for the only one."""
        self.save(seq)
        self.why = ""

    def save(self, seq: int) -> None:
        """Write the guard file, replacing it whole."""
        path = self.path
        if path is None:
            return
        body = json.dumps({"seq": seq, "inode": self._inode, "host": self._host}).encode()
        fresh = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            self._unsaved = None
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise StoreError(
                f"{path} cannot be written ({error.strerror}); it protects this store against paying twice"
            ) from error

    def _compare(self, count: Callable[[], int]) -> str:
        assert self.path is not None
        seen, seq = _read(self.path), count()
        if (
            seen is None and not seq
        ):  # nobody has written to it yet: there is nothing that a copy could send again
            self.save(seq)
            return ""
        return _difference(self.path, seen, seq, inode=self._inode, host=self._host)


def compare(database: Path, seq: Callable[[], int]) -> str:
    """Tell why a database file looks like a copy of the one last used here; nothing where it does not.

    What a `Guard` finds out when it is made, without a guard file being made. The arguments are its own.
    """
    path = _beside(database)
    seen, writes = _read(path), seq()
    if seen is None and not writes:
        return ""
    return _difference(path, seen, writes, inode=database.stat().st_ino, host=socket.gethostname())


def _difference(path: Path, seen: _Seen | None, seq: int, *, inode: int, host: str) -> str:
    if seen is None:
        return f"{path.name} is missing or unreadable, so this may be a copy or a restored backup"
    if seq < seen.seq:
        return f"it is older than what was last seen here (write {seq} after write {seen.seq}): a restored backup"
    if seen.inode != inode:
        return "it is another file than the one last used here: a copy or a restored backup"
    if seen.host != host:
        return (
            f"it was last used on host {seen.host!r}: a copy or a moved disk (in a container whose name changes, "
            "open it with SQLiteStore(path, host=NAME))"
        )
    return ""


def _beside(database: Path) -> Path:
    return database.with_name(database.name + ".guard")


def _read(path: Path) -> _Seen | None:
    try:
        stored = json.loads(path.read_bytes())
        return _Seen(int(stored["seq"]), int(stored["inode"]), str(stored["host"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror}); give this user the right to read and write it"
        ) from error
    except (ValueError, TypeError, KeyError):
        return None
