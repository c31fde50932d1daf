"""A way to a PostgreSQL server that can be cut at the moment that matters: around a COMMIT."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Literal

from psycopg import conninfo

Cut = Literal["before", "after"]
_COMMIT = b"COMMIT\0"


class Proxy:
    """Passes bytes on, until it is told to cut a connection before a COMMIT reaches the server, or its answer the client.

    Args:
        address: a server on a local socket.

    Attributes:
        cut: what becomes of the next COMMIT; it holds for one.
        refuses: whether new connections are closed at once.
    """

    def __init__(self, address: str) -> None:
        known = conninfo.conninfo_to_dict(address)
        self._server = f"{known['host']}/.s.PGSQL.5432"
        # Not pytest's folder: a socket's path must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="bkpx"))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self.address: str = conninfo.make_conninfo(address, host=str(self._folder))
        self.cut: Cut | None = None
        self.refuses: bool = False
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def armed(self) -> bool:
        """Tell whether a COMMIT is still to be cut."""
        return self.cut is not None

    def close(self) -> None:
        self._listener.close()
        shutil.rmtree(self._folder)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refuses:
                    client.close()
                    continue
                server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                server.connect(self._server)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=_pump, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                if _COMMIT in data and self.cut is not None:
                    cut, self.cut = self.cut, None
                    # Nothing comes through to the client from here on.
                    client.shutdown(socket.SHUT_RDWR)
                    if cut == "after":
                        server.sendall(data)
                    break
                server.sendall(data)
            # No more to come; what was sent is still carried out.
            server.shutdown(socket.SHUT_WR)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
