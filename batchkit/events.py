"""Events for whoever listens: read back from the store, so that one lost in a crash is told again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from batchkit.ids import RunId
from batchkit.model import DocKind, Event, Run
from batchkit.standing import read_events, scope_of
from batchkit.storage import DocumentStore

_LOG = logging.getLogger("batchkit")
_TOLD: Final = "told"


class Teller:
    """Tells a listener the events of runs, each at least once, after the commit that it reports."""

    def __init__(self, store: DocumentStore, listener: Callable[[Event], None]) -> None:
        """Tell ``listener`` what the store holds and nobody was told yet."""
        self._store = store
        self._listener = listener
        self._last: dict[RunId, str] = {}

    def tell(self, run: Run) -> None:
        """Tell what happened since the last time, this process's or an earlier one's.

        A listener that fails is told the same event again next time; the run goes on.
        """
        before = told = self._last.get(run.id) or self._noted(run)
        for event in read_events(self._store, run, after=before):
            try:
                self._listener(event)
            except Exception:
                _LOG.exception("on_event failed for %s; it is told again", event.id)
                break
            told = event.id
        if told != before:
            self._store.append(DocKind.LOOSE, self._scope(run), told.encode())
        self._last[run.id] = told

    def _noted(self, run: Run) -> str:
        noted = self._store.docs(DocKind.LOOSE, scope=self._scope(run))
        return noted[-1][1].decode() if noted else ""

    @staticmethod
    def _scope(run: Run) -> str:
        return f"{_TOLD}-{scope_of(run.id)}"
