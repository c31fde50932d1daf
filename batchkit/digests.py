"""Digests of frozen pages and of the run made of them."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from batchkit.ids import Digest


def page_digest(lines: Iterable[bytes]) -> Digest:
    r"""Give SHA-256 over the lines of one page, each followed by ``\n``.

    Args:
        lines: Canonical lines (:attr:`batchkit.model.SourceRow.line`), in source order.
    """
    return Digest(sha256(b"".join([line + b"\n" for line in lines])).hexdigest())


def run_digest(pages: Iterable[Digest]) -> Digest:
    """Give SHA-256 over the concatenated hexadecimal page digests, in page order."""
    return Digest(sha256("".join(pages).encode("ascii")).hexdigest())
