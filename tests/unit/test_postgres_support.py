"""The tests' own PostgreSQL: databases apart from each other, nothing left behind by a killed session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from pg import Server, database, url

# A server of its own, which no other test uses.
ORPHAN = """
import os, signal, sys
from pg import Server
print(Server(durable=True).__enter__(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_each_test_has_a_database_of_its_own(postgres: str, postgres_server: str) -> None:
    """What one database holds another does not, a copy of a template holds what that one does, both forms of address open it."""
    with psycopg.connect(url(postgres)) as connection:
        connection.execute("CREATE TABLE mine (id integer)")
    with database(postgres_server) as other, psycopg.connect(other) as connection:
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)
    with database(postgres_server, template=postgres) as copy, psycopg.connect(copy) as connection:
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == ("mine",)


def test_a_server_stands_while_one_handle_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lets go of one of two handles keeps its server, also where another process lets go last."""
    monkeypatch.delenv("BATCHKIT_TEST_POSTGRES", raising=False)
    command = [sys.executable, "-c", "from pg import Server\nwith Server(durable=True): pass"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with Server(durable=True) as address:
        with Server(durable=True):
            pass
        subprocess.run(command, env=environment, check=True, timeout=60)
        psycopg.connect(address).close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address)


def test_a_killed_session_leaves_no_server_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that gets a SIGKILL leaves its server running; the next one stops it and removes its data."""
    monkeypatch.delenv("BATCHKIT_TEST_POSTGRES", raising=False)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ORPHAN]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    address = killed.stdout.strip()
    assert killed.returncode < 0, killed.stderr
    psycopg.connect(address).close()
    with Server():
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(address)
        assert not Path(str(psycopg.conninfo.conninfo_to_dict(address)["host"])).exists()
