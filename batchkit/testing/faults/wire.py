"""HTTP operations that fail at a chosen moment."""

from __future__ import annotations

from collections.abc import Callable

from batchkit.testing.faults.moments import Faults
from batchkit.testing.http import Dropped, Request, Response, read_all
from batchkit.testing.simulator import Handler

__all__ = ["FaultyAPI", "arrived"]


class FaultyAPI:
    """What one client sees of an API: its requests fail as ``faults`` says.

    A request that fails before its effect was sent whole and never arrived; one that fails after it took effect
    and only its answer is lost. A body that raises while it is read was never sent, and passes as it is.

    Args:
        api: A `SimulatedAPI`, or a wrapper around one.
        faults: Such as `Nth`.
        meanwhile: Called before each request, for whatever else goes on in the world.
    """

    def __init__(
        self, api: Handler, faults: Faults, *, meanwhile: Callable[[Request], None] | None = None
    ) -> None:
        self._api = api
        self._faults = faults
        self._meanwhile = meanwhile

    def handle(self, request: Request) -> Response:
        """Answer one request, or lose it, or its answer."""
        if self._meanwhile is not None:
            self._meanwhile(request)
        whole = arrived(request)
        return self._faults(
            f"{request.method} {request.path}",
            lambda: self._api.handle(whole),
            lambda: Dropped("connection reset (injected)"),
        )


def arrived(request: Request) -> Request:
    """Give the request with its body read to the end, as a server has it."""
    if isinstance(request.body, bytes):
        return request
    return Request(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        body=read_all(request.body),
    )
