"""What the provider said, as plain values: remote batches, a page of the list, the answer to a create."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TypeGuard

import attrs

from batchkit.ids import RemoteId
from batchkit.model import Place

__all__ = ["CreateAnswer", "ListPage", "RemoteBatch", "remote_batch", "usable_id"]

_LONGEST_ID = 200


@attrs.frozen(kw_only=True)
class RemoteBatch:
    """A remote Message Batch as one answer described it. Times are epoch seconds of the server's clock.

    ``seen_at`` is the date of that answer, None where it had none.
    """

    id: RemoteId
    status: str
    counts: Mapping[str, int]
    created_at: float
    expires_at: float | None = None
    ended_at: float | None = None
    seen_at: float | None = None

    @property
    def total(self) -> int:
        """Give the batch's size: the sum of its counts, which holds from its first second on."""
        return sum(self.counts.values())

    @property
    def ended(self) -> bool:
        """Tell whether its results can be read. ``canceling`` is still running."""
        return self.status == "ended"


@attrs.frozen(kw_only=True)
class ListPage:
    """One page of the list of batches, newest first.

    ``date`` is the answer's ``Date`` header in epoch seconds (None: absent or unreadable), ``age`` the
    seconds a cache held the answer, ``place`` what the headers say about where it was taken.
    """

    items: tuple[RemoteBatch, ...]
    has_more: bool
    place: Place
    date: float | None
    age: float = 0.0


@attrs.frozen(kw_only=True)
class CreateAnswer:
    """The plain facts about one create, whatever happened to it.

    ``status`` is None where no answer came. ``body`` is the answer's JSON object, or None where it was
    anything else. ``causes`` are the class names of the exception and its causes, outermost first.
    ``handed_over`` tells whether the last chunk of the body was given to the transport.
    """

    handed_over: bool
    status: int | None = None
    body: Mapping[str, object] | None = None
    error_type: str = ""
    error_message: str = ""
    error_code: str = ""
    retry_after: float | None = None
    causes: tuple[str, ...] = ()
    place: Place | None = None
    date: float | None = None
    request_id: str = ""


def usable_id(value: object) -> TypeGuard[RemoteId]:
    """Tell whether a value can be a remote id: printable ASCII text of sane length, and no path step."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST_ID
        and all("!" <= c <= "~" for c in value)
        and value.strip(".") != ""
    )


def remote_batch(body: Mapping[str, object], *, seen_at: float | None = None) -> RemoteBatch | None:
    """Read a Message Batch object from an answer of the server time ``seen_at``. None where it is not one."""
    remote, counts = body.get("id"), body.get("request_counts")
    created = _seconds(body.get("created_at"))
    if body.get("type") != "message_batch" or not usable_id(remote) or created is None:
        return None
    if not isinstance(counts, Mapping):
        return None
    numbers = {str(name): n for name, n in counts.items() if type(n) is int and n >= 0}
    if len(numbers) != len(counts):
        return None
    return RemoteBatch(
        id=remote,
        status=str(body.get("processing_status") or ""),
        counts=numbers,
        created_at=created,
        expires_at=_seconds(body.get("expires_at")),
        ended_at=_seconds(body.get("ended_at")),
        seen_at=seen_at,
    )


def _seconds(stamp: object) -> float | None:
    if not isinstance(stamp, str):
        return None
    try:
        # Python 3.10 reads neither "Z" nor fractions of other than 3 or 6 digits.
        text = stamp.strip().replace("Z", "+00:00").replace("z", "+00:00")
        head, dot, tail = text.partition(".")
        if dot:
            digits = len(tail) - len(tail.lstrip("0123456789"))
            text = f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}"
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
