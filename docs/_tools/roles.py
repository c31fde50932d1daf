"""Show Sphinx roles in docstrings, such as :class:`batchkit.Run`, as plain code on the reference pages."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:meth|class|func|data|mod|attr):`~?\.?([^`]+)`")
_BLOCK = re.compile(r"::\n\n(?=    )")


class Roles(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Take the role away from around a name."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
