"""What a JSON Schema made by pydantic says: its fields, its allowed values, and what no model can be held to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from batchkit.errors import ContractError

Schema: TypeAlias = Mapping[str, Any]

_COMBINED = ("anyOf", "oneOf", "allOf")
_KINDS = frozenset({"type", "enum", "const", "$ref", *_COMBINED})


def fields(schema: Schema) -> tuple[str, ...]:
    """Give the names of an object schema's properties, in order."""
    return tuple(_properties(_resolved(schema, _defs(schema))))


def enums(schema: Schema) -> dict[str, tuple[Any, ...]]:
    """Give the allowed values of every top-level field that has a closed list of them; None where null is one."""
    defs = _defs(schema)
    found = {name: _values(node, defs) for name, node in _properties(_resolved(schema, defs)).items()}
    return {name: values for name, values in found.items() if values}


def allowed(schema: Schema) -> dict[str, tuple[Any, ...]]:
    """Give every closed list of values by path, also inside lists (``tags[]``) and objects (``size.unit``)."""
    defs = _defs(schema)
    found: dict[str, tuple[Any, ...]] = {}
    for path, node in _walk(schema, defs):
        if path and (values := _values(node, defs)):
            found.setdefault(path, values)  # a node comes before its branches, which know nothing of null
    return found


def branches(schema: Schema, field: str) -> tuple[Schema, ...]:
    """Give what one field of the answer may be: its schema, or each branch where there are several."""
    defs = _defs(schema)
    node = _resolved(_properties(_resolved(schema, defs))[field], defs)
    kinds = node.get("anyOf") or node.get("oneOf") or (node,)
    return tuple(_resolved(kind, defs) for kind in kinds)


def has_numbers(schema: Schema) -> bool:
    """Tell whether a value may be a floating-point number, which JSON texts can overflow."""
    return any(str(node.get("type")) == "number" for _, node in _walk(schema, _defs(schema)))


def is_flat(schema: Schema) -> bool:
    """Tell whether no object stands inside the outermost one."""
    return len([1 for _, node in _walk(schema, _defs(schema)) if node.get("type") == "object"]) == 1


def check_closed(schema: Schema) -> None:
    """Make sure that the schema is an object of fixed fields all the way down, as structured outputs need it.

    Raises:
        ContractError: the outermost value is no object, or a field is open, untyped or recursive; it is named.
    """
    defs = _defs(schema)
    if _resolved(schema, defs).get("type") != "object":
        raise ContractError(
            "a contract's answer is a JSON object with named fields; wrap other values in a model with one field"
        )
    for path, node in _walk(schema, defs):
        where = f"field {path!r}" if path else "the contract"
        if not _KINDS & node.keys():
            raise ContractError(f"{where} accepts anything; give it a type")
        if node.get("type") != "object":
            continue
        if node.get("additionalProperties", False) is not False or "patternProperties" in node:
            raise ContractError(
                f"{where} is an open mapping, and structured outputs admit no free keys; "
                "use a list of objects with a name and a value, or a model with fixed fields and no extra='allow'"
            )
        if not _properties(node):
            raise ContractError(f"{where} is an object without fields; no answer could fill it")


def _walk(schema: Schema, defs: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield every node with its path, references followed."""
    pending: list[tuple[str, Schema, tuple[str, ...]]] = [("", schema, ())]
    while pending:
        path, node, inside = pending.pop()
        ref = node.get("$ref")
        if ref is not None:
            if ref in inside:
                raise ContractError(
                    f"field {path!r} contains itself; structured outputs take no recursive schema"
                )
            pending.append((path, _resolved(node, defs), (*inside, ref)))
            continue
        yield path, node
        children = [(f"{path}.{name}" if path else name, child) for name, child in _properties(node).items()]
        if isinstance(node.get("items"), Mapping):
            children.append((f"{path}[]", node["items"]))
        children += [(f"{path}[]", child) for child in node.get("prefixItems", ())]
        children += [(path, child) for key in _COMBINED for child in node.get(key, ())]
        pending.extend((where, child, inside) for where, child in reversed(children))


def _values(node: Schema, defs: Schema) -> tuple[Any, ...]:
    """Give the closed list of values of one node, or nothing where any branch is open."""
    node = _resolved(node, defs)
    if "enum" in node:
        return tuple(node["enum"])
    if "const" in node:
        return (node["const"],)
    branches = node.get("anyOf") or node.get("oneOf") or ()
    found: list[Any] = []
    for branch in branches:
        values = _values(branch, defs)
        if not values and branch.get("type") != "null":
            return ()
        found.extend(values)
    nullable = any(branch.get("type") == "null" for branch in branches)
    return (*found, None) if found and nullable and None not in found else tuple(found)


def _defs(schema: Schema) -> Schema:
    defs: Schema = schema.get("$defs", {})
    return defs


def _resolved(node: Schema, defs: Schema) -> Schema:
    seen = set()
    while (ref := node.get("$ref")) is not None:
        if ref in seen:
            raise ContractError(f"{ref} refers to itself")
        seen.add(ref)
        node = defs[str(ref).rpartition("/")[2]]
    return node


def _properties(node: Schema) -> Schema:
    properties: Schema = node.get("properties", {})
    return properties
