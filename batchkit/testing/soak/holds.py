"""For how long doubts keep their rows."""

from __future__ import annotations

from batchkit.ids import BatchId
from batchkit.model import BatchWhere
from batchkit.states import BatchState
from batchkit.storage import Store

__all__ = ["Holds"]

_OPEN = frozenset({BatchState.SENDING, BatchState.DOUBTFUL, BatchState.HELD})


class Holds:
    """Notes when a batch's rows began to be held by a doubt, and when that ended, in real time.

    Attributes:
        ended: How long each doubt lasted, in seconds: a person's time to answer is part of it.
    """

    def __init__(self) -> None:
        self.ended: list[float] = []
        self._since: dict[BatchId, float] = {}

    def look(self, store: Store, now: float) -> None:
        """Note what changed since the last look."""
        batches = store.batches(BatchWhere(states=_OPEN))
        doubted = {
            batch.id
            for batch in batches
            if batch.state is not BatchState.HELD or batch.held_from is BatchState.DOUBTFUL
        }
        for batch in doubted - self._since.keys():
            self._since[batch] = now
        for batch in self._since.keys() - doubted:
            self.ended.append(now - self._since.pop(batch))
