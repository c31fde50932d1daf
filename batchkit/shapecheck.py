"""A JSON value against the schema of a contract, where the code that made the schema is not at hand.

It knows what pydantic writes for closed objects. What it does not know it lets pass: whoever has the contract
judges again before anything counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (Mapping,),
    "null": (type(None),),
}


def violations(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with a value, place by place; empty where nothing is."""
    return _wrong(value, schema, schema.get("$defs", {}), "")


def _wrong(value: Any, node: Mapping[str, Any], defs: Mapping[str, Any], at: str) -> list[str]:
    if "$ref" in node:
        return _wrong(value, defs[str(node["$ref"]).rpartition("/")[2]], defs, at)
    where = at or "the answer"
    branches: Sequence[Mapping[str, Any]] = node.get("anyOf") or node.get("oneOf") or ()
    if branches:
        found = [_wrong(value, branch, defs, at) for branch in branches]
        # Of several branches the one that comes nearest says most.
        return [] if not all(found) else min(found, key=lambda wrong: (len(wrong), "is no" in wrong[0]))
    if "const" in node and value != node["const"]:
        return [f"{where} is not {node['const']!r}"]
    if "enum" in node and value not in node["enum"]:
        return [f"{where} is none of the allowed values"]
    kind = node.get("type")
    if isinstance(kind, str) and not _is(value, kind):
        return [f"{where} is no {kind}"]
    match value:
        case Mapping():
            return _wrong_object(value, node, defs, at)
        case list() | tuple():
            return _sized(len(value), node, "Items", f"{where} has {len(value)} items") + [
                wrong
                for place, item in enumerate(value)
                for wrong in _wrong(item, node.get("items", {}), defs, f"{at}.{place}".lstrip("."))
            ]
        case str():
            wrong = _sized(len(value), node, "Length", f"{where} has {len(value)} characters")
            if "pattern" in node and not re.search(node["pattern"], value):
                wrong.append(f"{where} does not match its pattern")
            return wrong
        case int() | float():
            return _bounded(value, node, where)
        case _:
            return []


def _wrong_object(
    value: Mapping[str, Any], node: Mapping[str, Any], defs: Mapping[str, Any], at: str
) -> list[str]:
    known = node.get("properties", {})
    wrong = [
        f"{at}.{name}".lstrip(".") + " is missing" for name in node.get("required", ()) if name not in value
    ]
    for name, item in value.items():
        place = f"{at}.{name}".lstrip(".")
        if name in known:
            wrong += _wrong(item, known[name], defs, place)
        else:
            wrong.append(f"{place} is no field of the answer")
    return wrong


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind in {"integer", "number"}:
        return False
    return isinstance(value, _TYPES.get(kind, (object,)))


def _sized(size: int, node: Mapping[str, Any], what: str, said: str) -> list[str]:
    least, most = node.get(f"min{what}", 0), node.get(f"max{what}")
    if size < least:
        return [f"{said}, at least {least} are asked"]
    return [f"{said}, at most {most} are allowed"] if most is not None and size > most else []


def _bounded(value: float, node: Mapping[str, Any], where: str) -> list[str]:
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if (low is not None and value < low) or (above is not None and value <= above):
        return [f"{where} is too small"]
    if (high is not None and value > high) or (below is not None and value >= below):
        return [f"{where} is too large"]
    return []
