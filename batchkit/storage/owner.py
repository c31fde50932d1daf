"""Who holds a lease, told so that another process of the same machine can see that it is gone."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NamedTuple

_PREFIX = "process"


class _Process(NamedTuple):
    host: str
    boot: str
    space: str
    pid: int
    start: str


def this_process(tag: str = "") -> str:
    """Name this process for a lease: host, boot, pid namespace, pid and start.

    Args:
        tag: tells apart several holders within one process; no slash.
    """
    me = os.getpid()
    parts = (_PREFIX, _host(), _boot(), _space(), str(me), _start(me) or "", tag)
    return "/".join(part.replace("/", "-") for part in parts)


def is_gone(owner: str) -> bool:
    """Tell whether the owner is a process of this machine that certainly does not run any more.

    False whenever that cannot be known: another host, boot or pid namespace, or an owner that was not
    named by `this_process`.
    """
    parts = owner.split("/")
    if len(parts) != 7 or parts[0] != _PREFIX or not parts[4].isdigit():
        return False
    held = _Process(parts[1], parts[2], parts[3], int(parts[4]), parts[5])
    here = _Process(_host().replace("/", "-"), _boot(), _space(), held.pid, held.start)
    return held == here and bool(held.boot and held.start) and _start(held.pid) != held.start


def _host() -> str:
    return socket.gethostname()


def _boot() -> str:
    return _read(Path("/proc/sys/kernel/random/boot_id")).strip()


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start(pid: int) -> str | None:
    """Give a process's start in clock ticks since boot; None where there is no such process."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    # Counted after the command's name, which may itself hold blanks: the state is the first, the start the 20th.
    if len(fields) < 20 or fields[0] in {"Z", "X"}:
        return None
    return fields[19]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
