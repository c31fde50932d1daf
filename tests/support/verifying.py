"""The verifier as people run it, and as a function, for tests that run it very often."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from unittest import mock


def verify(folder: Path, *arguments: str | Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run verify.py in a process of its own, without site packages; give exit code and everything it said."""
    command = [sys.executable, "-I", "-S", str(folder / "verify.py"), *map(str, arguments)]
    told = subprocess.run(command, capture_output=True, encoding="utf-8", env=env, check=False)
    return told.returncode, told.stdout + told.stderr


def verify_here(folder: Path, *arguments: str | Path) -> tuple[int, str]:
    """Run verify.py in this process."""
    program = (folder / "verify.py").read_text("utf-8")
    said = io.StringIO()
    names = {"__name__": "__main__", "__file__": str(folder / "verify.py"), "__doc__": ""}
    argv = ["verify.py", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(said):
        try:
            exec(compile(program, "verify.py", "exec"), names)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            return code, f"{said.getvalue()}{'' if code == end.code else end.code or ''}"
    raise AssertionError("the verifier did not end by an exit")
