"""The package as it is shipped: its names, its version, its files, and the walls the suite runs within."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import pkgutil
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

import batchkit
from batchkit import testing

PACKAGE = Path(batchkit.__file__).parent
PROJECT = Path(__file__).parents[2]
EXTRAS = ["narwhals", "pandas", "polars", "psycopg", "pyarrow", "rich"]


def project_files() -> Iterator[Path]:
    """Every file of the project that a person wrote, wherever the package itself is installed."""
    written = {".md", ".py", ".toml", ".yml"}
    yield from (path for path in sorted(PROJECT.iterdir()) if path.suffix in written)
    for folder in [PACKAGE, *(PROJECT / name for name in (".ci", "benchmarks", "docs", "examples", "tests"))]:
        yield from (
            path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts
        )


def public_names() -> list[str]:
    return list(getattr(batchkit, "__all__", []))


def test_every_public_name_is_listed_once_and_importable() -> None:
    """`batchkit.__all__` has no repeats, and each name in it exists; the linter keeps its order."""
    names = public_names()
    assert len(names) == len(set(names)) > 0
    assert [name for name in names if not hasattr(batchkit, name)] == []


def test_the_package_file_is_a_table_of_contents() -> None:
    """`batchkit/__init__.py` holds a docstring, imports and `__all__`, and no code of its own."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    assert ast.get_docstring(tree)
    assert [type(node).__name__ for node in tree.body[1:] if not isinstance(node, allowed)] == []


def test_every_module_can_be_imported_alone() -> None:
    """Each module imports without the extras, and no import brings in the SDK, which is loaded late."""
    modules = [
        found.name
        for found in pkgutil.walk_packages([str(PACKAGE)], prefix="batchkit.")
        if not found.name.endswith("__main__")
    ]
    lines = [
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))",  # None: cannot be imported
        f"import {', '.join(['batchkit', *modules])}",
        "print('anthropic' in sys.modules)",
    ]
    child = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (child.returncode, child.stdout.strip()) == (0, "False"), child.stderr


def test_the_contracts_alone_need_pytest() -> None:
    """`batchkit.testing` imports without pytest, and gives both contracts where pytest is."""
    child = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['pytest'] = None; import batchkit.testing"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    assert (testing.StoreContract.__name__, testing.TargetContract.__name__) == (
        "StoreContract",
        "TargetContract",
    )
    with pytest.raises(AttributeError, match="nobody"):
        testing.nobody  # noqa: B018


def test_the_version_is_told_once() -> None:
    """The changelog's newest heading names the installed version, or that of which it is the next one's development."""
    installed = importlib.metadata.version("message-batchkit")
    headings = re.findall(
        r"^## \[?([^\]\s]+)", (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    newest, *older = headings
    if newest == "Unreleased":
        assert Version(installed).is_devrelease
        assert Version(installed) > Version(older[0])
    else:
        assert installed == newest
    assert not hasattr(batchkit, "__version__")


def test_the_package_tells_type_checkers_that_it_is_typed() -> None:
    """The installed package carries the `py.typed` marker."""
    assert (PACKAGE / "py.typed").is_file()


def test_modules_stay_small_enough_to_read() -> None:
    """No module of the package passes 400 lines: one that does is split by noun."""
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_bytes().splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_no_file_names_a_place_on_some_machine() -> None:
    """No file of the project holds an absolute path of the machine it was written on."""
    place = re.compile(rb"(?<![\w.<])/(?:root|home|work|Users)/|/tmp/[a-z]")
    assert [path.name for path in project_files() if place.search(path.read_bytes())] == []


def test_the_checks_run_the_command_that_the_readme_gives() -> None:
    """`.ci/run` runs the README's test command, word for word."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^python -m pip install nox && python -m nox -s tests$", readme, re.MULTILINE)
    assert f"bash -c '{command}'" in (PROJECT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.com", 443)])
def test_no_test_can_leave_loopback(address: tuple[str, int]) -> None:
    """A connection to another machine, by number or by name, is refused before a packet leaves."""
    with pytest.raises(RuntimeError, match="loopback only"):
        socket.create_connection(address, timeout=1)


def test_no_datagram_can_leave_loopback() -> None:
    """A datagram to another machine is refused, and so is a connection that reports by error number."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(RuntimeError, match="loopback only"):
            sock.sendto(b"out", ("192.0.2.1", 53))
        with pytest.raises(RuntimeError, match="loopback only"):
            sock.connect_ex(("192.0.2.1", 53))


def test_loopback_itself_is_open() -> None:
    """A server on 127.0.0.1 can be reached by number and by name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, port), timeout=5).close()


def test_no_test_has_a_key() -> None:
    """The environment that tests and their child processes see holds no variable of the SDK."""
    assert [name for name in os.environ if name.startswith("ANTHROPIC_")] == []
