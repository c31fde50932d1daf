"""The name of a lease's holder tells whether the holder is gone, and never guesses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchkit.ids import Digest
from batchkit.model import NewRun
from batchkit.storage import owner
from batchkit.storage.owner import is_gone, this_process
from batchkit.storage.sqlite import SQLiteStore

needs_procfs = Path("/proc/self/stat").exists()


def dead_process() -> str:
    """Give the owner name of a process that has ended."""
    code = "from batchkit.storage.owner import this_process; print(this_process('t'))"
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_this_process_is_not_gone() -> None:
    """A running process is alive under any tag, and tags tell its holders apart."""
    assert not is_gone(this_process())
    assert not is_gone(this_process("mover-1"))
    assert this_process("a") != this_process("b")
    assert this_process("a") == this_process("a")


def test_an_ended_process_is_gone() -> None:
    """A process of this machine that has ended is gone, where the system tells."""
    assert is_gone(dead_process()) is needs_procfs


def test_a_recycled_pid_is_another_process() -> None:
    """A running process with the same pid that started at another time is not the holder."""
    parts = this_process().split("/")
    parts[5] = "1"
    assert is_gone("/".join(parts)) is needs_procfs


@pytest.mark.parametrize("part", [1, 2, 3])
def test_nothing_is_known_of_other_machines(part: int) -> None:
    """A dead holder of another host, boot or pid namespace is not called gone."""
    parts = dead_process().split("/")
    parts[part] = "other"
    assert not is_gone("/".join(parts))


@pytest.mark.parametrize(
    "text", ["", "me", "process/h/b/s/x/1/", "process/h/b/s/1/1", "a/b/c/d/1/1/g", "process//////"]
)
def test_other_names_are_never_gone(text: str) -> None:
    """An owner not named by this module is left alone."""
    assert not is_gone(text)


def test_without_procfs_nobody_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell boots and starts, a lease simply runs out."""
    monkeypatch.setattr(owner, "_read", lambda path: "")
    assert not is_gone(this_process())
    assert not is_gone(f"process/{owner._host()}//{owner._space()}/999999//")


def test_a_zombie_is_gone() -> None:
    """A process that ended and was not waited for yet moves nothing any more."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, this_process().encode())
        os._exit(0)
    name = os.read(read, 1000).decode()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert is_gone(name) is needs_procfs
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)


def test_a_dead_owner_loses_the_lease_at_once(tmp_path: Path) -> None:
    """A lease of a process of this machine that is gone can be taken before it runs out."""
    store = SQLiteStore(tmp_path / "store.db")
    run, _ = store.open_run(NewRun(name="run", spec=Digest("ab" * 32)))
    assert store.acquire(run.id, dead_process(), 3600) is not None
    assert (store.holder(run.id) is None) is needs_procfs
    assert (store.acquire(run.id, this_process(), 60) is not None) is needs_procfs
    assert store.acquire(run.id, this_process("other"), 60) is None
    store.close()
