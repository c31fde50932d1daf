"""A store whose operations fail."""

from __future__ import annotations

import functools
from typing import Any, cast

from batchkit.errors import StoreError
from batchkit.storage import Store
from batchkit.testing.faults.moments import Faults

__all__ = ["faulty_store"]

_CALM = frozenset({"now", "close"})


class _FaultyStore:
    def __init__(self, store: Store, faults: Faults) -> None:
        self._wrapped = store
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if name.startswith("_") or name in _CALM or not callable(found):
            return found

        @functools.wraps(found)
        def operation(*args: Any, **options: Any) -> Any:
            return self._faults(name, lambda: found(*args, **options), lambda: _error(name))

        # Found directly from now on: a run asks thousands of times.
        self.__dict__[name] = operation
        return operation


def faulty_store(store: Store, faults: Faults) -> Store:
    """Wrap a store so that its operations, each of them one transaction, fail as ``faults`` says.

    An operation that raises after its effect is a commit whose confirmation was lost. Telling the time and
    closing are no operations.

    Args:
        store: Any store.
        faults: Such as `Nth`.
    """
    return cast("Store", _FaultyStore(store, faults))


def _error(name: str) -> StoreError:
    return StoreError(f"{name}: disk I/O error (injected)")
