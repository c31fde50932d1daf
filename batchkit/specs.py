"""Specs in the store: written whole when first used, read back to finish a run after a deploy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from batchkit.errors import SpecChanged
from batchkit.ids import Digest
from batchkit.model import DocKind
from batchkit.spec import Spec, StoredSpec
from batchkit.storage import DocumentStore

T = TypeVar("T")


def record_spec(store: DocumentStore, spec: Spec[T]) -> Mapping[str, Any]:
    """Store the spec by its fingerprint, if it is new, and give the wire schema kept with it.

    The wire schema is made once, by the SDK of that moment: an SDK upgrade changes neither the fingerprint
    nor what a running job sends.
    """
    held = store.get(DocKind.SPEC, spec.fingerprint)
    if held is None:
        from batchkit.api import wire_schema

        whole = {"spec": spec.document(), "wire_schema": wire_schema(spec.contract.schema)}
        held = json.dumps(whole, ensure_ascii=False).encode()
        store.put(DocKind.SPEC, spec.fingerprint, held)
    schema: Mapping[str, Any] = json.loads(held)["wire_schema"]
    return schema


def recall_spec(store: DocumentStore, fingerprint: Digest, code: Spec[T]) -> Spec[T]:
    """Give the spec of this fingerprint: prompt, tiers and policy as stored, judged by the code's contract.

    Raises:
        SpecChanged: the code's contract, its rules or their versions are not those the spec was stored with, or
            the store has no such spec.
    """
    if fingerprint == code.fingerprint:
        return code
    held = store.get(DocKind.SPEC, fingerprint)
    if held is None:
        raise SpecChanged(
            f"the run was started under spec {fingerprint[:6]}, which is not this code's {code.fingerprint[:6]}, and the "
            "store holds it no more: it was removed, or the store is not whole. Deploy the code it was started with."
        )
    stored = StoredSpec.load(json.dumps(json.loads(held)["spec"]))
    recalled = Spec(
        code.contract,
        stored.prompt,
        key=stored.key,
        tiers=stored.tiers,
        policy=stored.policy,
        prefix=stored.prefix,
        metadata=stored.metadata,
    )
    if recalled.fingerprint != fingerprint:
        raise SpecChanged(
            f"the run was started under spec {fingerprint[:6]}, whose contract or rules differ from this code's: "
            f"{recalled.fingerprint[:6]}. Judging needs the code it was started with: deploy that version to finish it."
        )
    return recalled
