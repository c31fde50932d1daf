"""Measuring one program in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Meter:
    """CPU, wall and peak memory of this process from here on; what was imported before counts apart."""

    def __init__(self) -> None:
        self._cpu, self._wall = cpu(), time.perf_counter()
        self.imports = self._cpu

    def report(self, **more: Any) -> dict[str, Any]:
        """Give what was used since."""
        return {
            "cpu": cpu() - self._cpu,
            "wall": time.perf_counter() - self._wall,
            "peak_mib": peak_mib(),
            "import_cpu": self.imports,
            **more,
        }


def cpu() -> float:
    """Give the user and system seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    """Give the most memory this process has had resident so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tell(report: dict[str, Any]) -> None:
    """Hand a report to the process that asked for it."""
    print(json.dumps(report), flush=True)


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Run the server in a process of its own; give its address."""
    process = subprocess.Popen([sys.executable, str(HERE / "server.py")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def measured(program: str, *args: object) -> dict[str, Any]:
    """Run a program of this folder in a child process and give its report."""
    child = subprocess.run(
        [sys.executable, str(HERE / program), *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(HERE.parent)},
    )
    if child.returncode:
        raise SystemExit(f"{program} ended with {child.returncode}")
    report: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return report


def versions() -> dict[str, str]:
    """Say what was measured with."""
    names = ("anthropic", "pydantic", "pydantic-core", "orjson", "msgspec")
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    import sqlite3

    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **found,
    }


def median(values: list[float]) -> float:
    """Give the middle value."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def spread(values: list[float]) -> list[float]:
    """Give the least and the greatest value."""
    return [round(min(values), 3), round(max(values), 3)]
