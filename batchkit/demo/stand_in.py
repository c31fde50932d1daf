"""The local stand-in for the Message Batches API: a process of its own that outlives a killed demo."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import attrs

from batchkit.demo.folder import Folder
from batchkit.errors import ProviderError

_PATIENCE = 60.0
"""Seconds that a server gets to read its journal and answer."""


@attrs.frozen
class StandIn:
    """A simulator that serves on a port of this machine."""

    port: int

    @property
    def url(self) -> str:
        """The address that a client is given."""
        return f"http://127.0.0.1:{self.port}"

    def state(self) -> dict[str, Any]:
        """Give the simulator's time, process and batches.

        Raises:
            OSError: nobody answers there.
        """
        return self._get("/_sim/state")

    def billed_lines(self) -> int:
        """Give how many answers were charged, over everything that was ever sent to it."""
        return int(self._get("/_sim/bill")["lines"])

    def _get(self, path: str) -> dict[str, Any]:
        # Not urllib: it would send loopback requests through a configured proxy.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        try:
            connection.request("GET", path)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
        return answer


@contextlib.contextmanager
def stand_in(folder: Folder, seed: int) -> Iterator[StandIn]:
    """Serve the simulator while the block runs; take over the one that a killed demo left.

    The port is noted before the server is started, so that whoever comes next looks in the right place,
    and the simulator's journal makes one that died go on where it stopped.
    """
    port = folder.notes.get("port")
    if port is None:
        port = _free_port()
        folder.note(port=port)
    served = StandIn(port)
    children: list[subprocess.Popen[bytes]] = []
    try:
        _await(served, folder, seed, children)
        yield served
    finally:
        _stop(served)
        for child in children:
            child.terminate()
            child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(served: StandIn, folder: Folder, seed: int, children: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            served.state()
            return
        # One that a killed demo had just started holds port and journal; then a second one leaves at once.
        if not children or children[-1].poll() is not None:
            children.append(_start(served, folder, seed))
        time.sleep(0.05)
    raise ProviderError(
        f"the simulator does not answer on port {served.port}; what it said is in "
        f"{str(folder.root / 'simulator.log')!r}. Nothing is lost: start the demo again with the same --workdir."
    )


def _start(served: StandIn, folder: Folder, seed: int) -> subprocess.Popen[bytes]:
    with (folder.root / "simulator.log").open("ab") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "batchkit.testing.server"),
                *("--port", str(served.port), "--seed", str(seed)),
                *("--state", str(folder.root / "simulator.state")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _stop(served: StandIn) -> None:
    """End the server that answers on our port; it tells which process it is."""
    with contextlib.suppress(OSError):
        os.kill(int(served.state()["pid"]), signal.SIGTERM)
        until = time.monotonic() + 10.0
        while time.monotonic() < until:
            served.state()
            time.sleep(0.02)
