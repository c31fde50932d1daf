"""Users' code by name: ``module:attribute``, as a command line and a worker process are given it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any

from batchkit.errors import UsageError

__all__ = ["load"]


def load(name: str) -> Any:
    """Import ``module:name`` from the current folder or the path; a function gives what it makes.

    Raises:
        UsageError: there is no such module.
    """
    module, mark, attribute = name.partition(":")
    if not mark:
        raise UsageError(f"{name!r} is not of the form module:name, such as catalog.enrich:flow")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UsageError(f"{name!r}: there is no module {error.name!r} here or on the path") from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found() if inspect.isfunction(found) else found
