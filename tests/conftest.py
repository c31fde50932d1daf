"""What every test stands on: no way off this machine, no key in the environment, named Hypothesis profiles."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# At import, so that it holds during collection and in every child process.
for _name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
    del os.environ[_name]

# A suite that a script starts in the background ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "ci",
    max_examples=60,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=_SLOW_MACHINES,
)
settings.register_profile("dev", max_examples=20, deadline=None, suppress_health_check=_SLOW_MACHINES)
settings.register_profile("deep", max_examples=2_000, deadline=None, suppress_health_check=_SLOW_MACHINES)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


class LeftLoopback(RuntimeError):
    """A test tried to reach another machine. No OSError: code under test must not retry it away."""


def _is_here(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).split("%")[0]).is_loopback
    except ValueError:
        return False


def _guard_address(sock: socket.socket, address: Any) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
        raise LeftLoopback(f"a test may use loopback only; it tried to reach {address[0]}")


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    """Refuse every connection, datagram and name look-up that would leave this machine."""
    connect, connect_ex, sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto
    getaddrinfo = socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _guard_address(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _guard_address(self, address)
        return connect_ex(self, address)

    def guarded_sendto(self: socket.socket, data: Any, *rest: Any) -> int:
        _guard_address(self, rest[-1])
        return sendto(self, data, *rest)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_here(host):
            raise LeftLoopback(f"a test may use loopback only; it tried to look up {host}")
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket.socket, "sendto", guarded_sendto)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Give the address of a PostgreSQL server that all workers share."""
    from pg import Server

    with Server() as address:
        yield address


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """Give the address of an empty PostgreSQL database of the test's own."""
    from pg import database

    with database(postgres_server) as address:
        yield address


@pytest.fixture(scope="session")
def postgres_catalog(postgres_server: str) -> Iterator[str]:
    """Give the address of one PostgreSQL database for all tests of this process that begin by clearing it.

    Making a database takes ten times as long as most tests of a catalog do.
    """
    from pg import database

    with database(postgres_server) as address:
        yield address


@pytest.fixture(scope="session")
def postgres_store(postgres_server: str) -> Iterator[str]:
    """Give the address of this worker's store on PostgreSQL; whoever uses it makes it empty first (`pg.empty`)."""
    from pg import store_schema

    with store_schema(postgres_server) as address:
        yield address


@pytest.fixture(params=["file", "postgres"])
def kept(request: pytest.FixtureRequest) -> str | None:
    """Give where a store is kept: None for a file, ":memory:", or the address of this worker's store on PostgreSQL."""
    if request.param == "file":
        return None
    if request.param == "memory":
        return ":memory:"
    address: str = request.getfixturevalue("postgres_store")
    return address


@pytest.fixture
def swept(record_property: Callable[[str, object], None]) -> Callable[[int, int, str], None]:
    """Give what notes how many of how many were tried, and of what; all of it is told at the end of the session."""

    def note(tried: int, of: int, what: str) -> None:
        record_property("swept", [tried, of, what])

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the sweeps took: in a worker of xdist, a test has no terminal to say it on."""
    told = [
        (report.nodeid.partition("::")[0].rpartition("/")[2], *value)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "swept"
    ]
    if told:
        terminalreporter.section("swept")
        for module, tried, of, what in sorted(told, key=lambda line: (line[0], line[3])):
            terminalreporter.line(f"{module}: {tried:,} of {of:,} {what}")
        terminalreporter.line(f"{sum(line[1] for line in told):,} in all")
