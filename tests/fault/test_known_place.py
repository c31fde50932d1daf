"""Which batches prove the place of a reading."""

from __future__ import annotations

import attrs
from rig import Rig

from batchkit.suspects import known_to


def test_a_known_batch_of_another_place_proves_nothing() -> None:
    """‡8 A batch that was acknowledged proves its own place, and no other workspace."""
    rig = Rig(6)
    sent = rig.send().batch
    assert sent is not None
    elsewhere = attrs.evolve(sent, place=attrs.evolve(sent.place, workspace="wrkspc_01another"))
    assert known_to(rig.store, sent).in_place == {sent.remote_id}
    assert known_to(rig.store, elsewhere).in_place == frozenset()
