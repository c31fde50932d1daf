"""The sampled rows of a pilot: picked once, kept under its name, the same for ever."""

from __future__ import annotations

import json
from typing import Any

from batchkit import source
from batchkit.errors import StoreError, UsageError
from batchkit.model import DocKind
from batchkit.sampler import Picked, Sampler
from batchkit.spec import Spec
from batchkit.storage import DocumentStore

FORMAT = 1


def keep_sample(
    store: DocumentStore,
    spec: Spec[Any],
    rows: object,
    *,
    name: str,
    size: int,
    keys: tuple[str, ...],
    sampler: Sampler,
) -> None:
    """Sample rows and keep them under a pilot's name.

    All columns of a sampled record are kept, so that a later prompt can use another one.

    Raises:
        UsageError: no record can be sampled, or one of ``keys`` is not among them.
    """
    body = _sampled(spec, rows, name=name, size=size, keys=keys, sampler=sampler)
    try:
        store.put(DocKind.PILOT, name, body)
    except StoreError:
        # Somebody else sampled one of this name meanwhile: theirs is the pilot.
        if store.get(DocKind.PILOT, name) is None:
            raise


def read_sample(store: DocumentStore, name: str) -> tuple[str, tuple[Picked, ...]] | None:
    """Give a pilot's key field and its rows; None where there is no pilot of this name."""
    body = store.get(DocKind.PILOT, name)
    if body is None:
        return None
    held = json.loads(body)
    key = held["key"]
    rows = held["rows"]
    return key, tuple(
        Picked(key=row["record"][key], record=row["record"], tags=tuple(row["tags"]), why=row["why"])
        for row in rows
    )


def _sampled(
    spec: Spec[Any], rows: object, *, name: str, size: int, keys: tuple[str, ...], sampler: Sampler
) -> bytes:
    fields = tuple(dict.fromkeys(f for tier in range(len(spec.tiers)) for f in spec.prompt_of(tier).fields))
    picked = sampler(source.records(rows), key=spec.key, fields=fields, size=size, keys=keys)
    if not picked:
        raise UsageError(
            "there is no row to sample: every record lacks a key or cannot be sent, or there is none"
        )
    document = {
        "format": FORMAT,
        "name": name,
        "key": spec.key,
        "size": size,
        "keys": list(keys),
        "fields": list(fields),
        "sampler": getattr(sampler, "__name__", type(sampler).__name__),
        "rows": [{"record": dict(row.record), "tags": list(row.tags), "why": row.why} for row in picked],
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
