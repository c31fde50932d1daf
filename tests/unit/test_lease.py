"""The lease that a block holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from rig import Rig

import batchkit
from batchkit.errors import LeaseLost, StoreError
from batchkit.lease import held, new_owner


def test_it_is_held_within_the_block_only() -> None:
    """Nobody else can take it meanwhile; afterwards anybody can."""
    rig = Rig(1)
    rig.store.release(rig.lease)
    with held(rig.store, rig.run.id, "me") as lease:
        assert lease is not None
        assert rig.store.holder(rig.run.id) == lease
        with held(rig.store, rig.run.id, "you") as other:
            assert other is None
        assert rig.store.holder(rig.run.id) == lease
    assert rig.store.holder(rig.run.id) is None


def test_it_is_given_back_when_the_block_fails() -> None:
    """An error in the block comes out as it is, and the lease is free."""
    rig = Rig(1)
    rig.store.release(rig.lease)
    with pytest.raises(ZeroDivisionError), held(rig.store, rig.run.id, "me"):
        raise ZeroDivisionError
    assert rig.store.holder(rig.run.id) is None


def test_a_lease_that_another_took_meanwhile_stays_with_them() -> None:
    """Whoever outlived its lease does not give back the one that somebody else took."""
    rig = Rig(1)
    rig.store.release(rig.lease)
    with held(rig.store, rig.run.id, "slow"):
        rig.clock.sleep(61.0)
        theirs = rig.take("quick")
    assert rig.store.holder(rig.run.id) == theirs


def test_a_store_that_fails_to_give_it_says_so() -> None:
    """The error of the store comes out, although nobody can be asked who holds it."""
    rig = Rig(1)
    rig.store.close()
    with pytest.raises(StoreError), held(rig.store, rig.run.id, "me"):
        raise LeaseLost("not reached")


def test_no_two_holders_share_a_name() -> None:
    """Two threads of one process are told apart, and the name says what for."""
    names = {new_owner("fetch") for _ in range(3)}
    assert len(names) == 3
    assert all("fetch-" in name for name in names)


def test_nothing_else_takes_leases() -> None:
    """Every lease of the library is taken here, so that all are given back in the same way."""
    root = Path(batchkit.__file__).parent
    takers = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if not {"testing", "storage"} & set(path.relative_to(root).parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"acquire", "release"}
    }
    assert takers == {"lease.py"}
