"""The promises about documents and strangers."""

from __future__ import annotations

from hashlib import sha256

import pytest

from batchkit.errors import StoreError
from batchkit.ids import RemoteId
from batchkit.model import DocKind
from batchkit.storage import Store
from batchkit.testing.store_contract.base import StoreCase

BODY = bytes(range(256)) * 3


class DocumentContract(StoreCase):
    """`batchkit.storage.DocumentStore`."""

    def test_a_document_comes_back(self, store: Store) -> None:
        """A document is given back byte for byte, and put gives its SHA-256."""
        assert store.put(DocKind.SPEC, "key", BODY) == sha256(BODY).hexdigest()
        assert store.get(DocKind.SPEC, "key") == BODY
        assert store.put(DocKind.SPEC, "empty", b"") == sha256(b"").hexdigest()
        assert store.get(DocKind.SPEC, "empty") == b""

    def test_no_document_is_none(self, store: Store) -> None:
        """A key nobody stored, or stored under another kind, gives None."""
        store.put(DocKind.SPEC, "key", BODY)
        assert store.get(DocKind.LOCK, "key") is None
        assert store.get(DocKind.SPEC, "other") is None

    def test_documents_do_not_change(self, store: Store) -> None:
        """The same body again changes nothing; another body under the key is refused."""
        store.put(DocKind.SPEC, "key", BODY)
        assert store.put(DocKind.SPEC, "key", BODY) == sha256(BODY).hexdigest()
        with pytest.raises(StoreError):
            store.put(DocKind.SPEC, "key", b"other")
        assert store.docs(DocKind.SPEC) == [("key", BODY)]

    def test_append_counts_up_per_scope_and_kind(self, store: Store) -> None:
        """Appended documents get the next key of their scope and kind, from 000000000001."""
        keys = [store.append(DocKind.REQUEST, "run-1", b"a"), store.append(DocKind.REQUEST, "run-1", b"a")]
        assert keys == ["run-1/000000000001", "run-1/000000000002"]
        assert store.append(DocKind.REQUEST, "run-10", b"b") == "run-10/000000000001"
        assert store.append(DocKind.CAP, "run-1", b"c") == "run-1/000000000001"
        assert store.append(DocKind.REQUEST, "run-1/x", b"d") == "run-1/x/000000000001"
        assert store.append(DocKind.REQUEST, "run-1/5", b"d") == "run-1/5/000000000001"
        store.put(DocKind.REQUEST, "run-1/5f0000000001", b"no number")
        assert store.append(DocKind.REQUEST, "run-1", b"e") == "run-1/000000000003"
        assert store.get(DocKind.REQUEST, "run-1/000000000002") == b"a"

    def test_append_passes_ten(self, store: Store) -> None:
        """Order of key stays order of appending beyond nine documents."""
        for n in range(12):
            store.append(DocKind.EVENT, "s", str(n).encode())
        assert [body for _, body in store.docs(DocKind.EVENT, scope="s")] == [
            str(n).encode() for n in range(12)
        ]

    def test_docs_are_in_order_of_key(self, store: Store) -> None:
        """Documents are given in ascending order of key, of one kind only."""
        for key in ("b", "a", "c"):
            store.put(DocKind.RECEIPT, key, key.encode())
        store.put(DocKind.LOCK, "aa", b"")
        assert store.docs(DocKind.RECEIPT) == [("a", b"a"), ("b", b"b"), ("c", b"c")]
        assert store.docs(DocKind.PILOT) == []

    def test_docs_after_a_key(self, store: Store) -> None:
        """``after`` gives only higher keys and ``limit`` the first of them."""
        for key in ("a", "b", "c", "d"):
            store.put(DocKind.RECEIPT, key, b"")
        assert [key for key, _ in store.docs(DocKind.RECEIPT, after="a")] == ["b", "c", "d"]
        assert [key for key, _ in store.docs(DocKind.RECEIPT, after="a", limit=2)] == ["b", "c"]
        assert [key for key, _ in store.docs(DocKind.RECEIPT, after="bb")] == ["c", "d"]

    def test_docs_of_a_scope(self, store: Store) -> None:
        """``scope`` gives only keys that begin with it and a slash."""
        for scope in ("run-1", "run-10", "run-2"):
            store.append(DocKind.EVENT, scope, scope.encode())
        store.put(DocKind.EVENT, "run-1", b"no")
        store.put(DocKind.EVENT, "run-1-x", b"no")
        assert store.docs(DocKind.EVENT, scope="run-1") == [("run-1/000000000001", b"run-1")]
        assert store.docs(DocKind.EVENT, scope="run-1", after="run-1/000000000001") == []
        assert store.docs(DocKind.EVENT, scope="run") == []

    def test_strangers_are_remembered_per_workspace(self, store: Store) -> None:
        """Dismissed ids are known again in their workspace only, and repeating changes nothing."""
        store.dismiss("w", [RemoteId("a"), RemoteId("b")])
        store.dismiss("w", [RemoteId("b")])
        asked = [RemoteId("a"), RemoteId("b"), RemoteId("c")]
        assert store.strangers("w", asked) == {"a", "b"}
        assert store.strangers("v", asked) == frozenset()
        assert store.strangers("w", []) == frozenset()
