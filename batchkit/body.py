"""The guarded body of a create: whoever may no longer send stops before the last chunk.

The length is declared beforehand, so a body that stops early was never a request: nothing was
created. Once the last chunk is handed over, nobody can know any more, and the batch is in doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from batchkit.errors import BatchkitError

__all__ = ["BodyStopped", "GuardedBody"]

CHUNK = 128 * 1024
"""Least bytes of a chunk, except the last."""

OPENING = b'{"requests":['
CLOSING = b"]}"


class BodyStopped(BatchkitError):
    """We stopped our own body before its last chunk: nothing was created."""


class GuardedBody:
    """A request body of known length that is made while it is sent, once.

    Iterating starts the items anew but is refused after the last chunk left: a transport, a redirect or
    a middleware that sends again would otherwise pay twice.

    Attributes:
        handed_over: Whether the last chunk was given to the transport.
    """

    def __init__(
        self,
        items: Callable[[], Iterable[bytes]],
        length: int,
        *,
        check: Callable[[], None],
        fence: Callable[[], None],
        chunk: int = CHUNK,
    ) -> None:
        """Prepare the body.

        Args:
            items: Gives the encoded requests in order, each one or several with commas between them.
            length: The exact length of the whole body in bytes.
            check: Called before every chunk; raises to stop.
            fence: Called before the last chunk; commits that we still may send, or raises.
            chunk: Least bytes of a chunk.
        """
        self._items = items
        self._length = length
        self._check = check
        self._fence = fence
        self._chunk = chunk
        self.handed_over: bool = False

    @staticmethod
    def length_of(sizes: Iterable[int]) -> int:
        """Give the length of a body made of items of these sizes."""
        total = count = 0
        for size in sizes:
            total += size
            count += 1
        return total + max(count - 1, 0) + len(OPENING) + len(CLOSING)

    def __len__(self) -> int:
        """Give the declared length in bytes."""
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks; raise before the last one if anything is not as promised.

        Raises:
            BodyStopped: the body was sent before, or its length is not the declared one.
        """
        if self.handed_over:
            raise BodyStopped("the body was sent already and is never sent again")
        sent = 0
        waiting: bytes | None = None
        for chunk in self._chunks():
            if waiting is not None:
                self._check()
                sent += len(waiting)
                yield waiting
            waiting = chunk
        last = waiting or b""
        if sent + len(last) != self._length:
            raise BodyStopped(
                f"the body has {sent + len(last)} bytes where {self._length} were declared; nothing was created"
            )
        self._check()
        self._fence()
        if self.handed_over:
            raise BodyStopped("the body was sent already and is never sent again")
        self.handed_over = True
        yield last

    def _chunks(self) -> Iterator[bytes]:
        parts: list[bytes] = [OPENING]
        held = len(OPENING)
        comma = False
        for item in self._items():
            if comma:
                parts.append(b",")
                held += 1
            comma = True
            parts.append(item)
            held += len(item)
            if held >= self._chunk:
                yield b"".join(parts)
                parts.clear()
                held = 0
        parts.append(CLOSING)
        yield b"".join(parts)
