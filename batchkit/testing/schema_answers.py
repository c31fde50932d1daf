"""Plausible values for any JSON schema, so that every contract can meet the simulator.

The wire schema of structured output names types, enums and nesting; lengths and
ranges often survive only as prose. So values are kept short and small, and
whatever limits the schema does state are kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

__all__ = ["plausible", "resolve"]

#: Below this depth optional parts are left out, so that recursive schemas end.
_DEPTH = 5

_FORMATS: Mapping[str, str] = {
    "date": "2026-11-22",
    "date-time": "2026-11-22T10:00:00Z",
    "time": "10:00:00Z",
    "duration": "P1D",
    "email": "someone@supplier.example",
    "hostname": "supplier.example",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://supplier.example/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def resolve(node: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow ``$ref`` within ``root`` until a schema is reached that is none."""
    for _ in range(20):
        if not isinstance(node, dict):
            return {}
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return node
        target: Any = root
        for part in reference[1:].strip("/").split("/"):
            if part:
                target = target.get(part.replace("~1", "/").replace("~0", "~"), {})
        node = target
    return {}


def plausible(
    schema: Mapping[str, Any],
    rng: random.Random,
    *,
    phrases: Sequence[str] = (),
    choose: Callable[[Sequence[Any]], Any] | None = None,
    nothing: bool = False,
) -> Any:
    """Return a value that the schema admits.

    Patterns, ``not`` and conditions are not looked at.

    Args:
        schema: A JSON schema with its own ``$defs``.
        rng: Decides what the schema leaves open.
        phrases: Texts to make strings of.
        choose: Picks one value of an enum; at random without it.
        nothing: Prefer null and empty lists, as for a record that says nothing.
    """
    return _Maker(schema, rng, tuple(phrases) or ("plain",), choose or rng.choice, nothing).value(schema, 0)


@attrs.frozen
class _Maker:
    root: Mapping[str, Any]
    rng: random.Random
    phrases: tuple[str, ...]
    choose: Callable[[Sequence[Any]], Any]
    nothing: bool

    def value(self, node: Any, depth: int) -> Any:
        node = resolve(node, self.root)
        if "const" in node:
            return node["const"]
        if "enum" in node:
            values = list(node["enum"])
            return None if self.nothing and None in values else self.choose(values)
        options = node.get("anyOf") or node.get("oneOf")
        if options:
            return self.value(self._option(options, depth), depth + 1)
        if node.get("allOf"):
            return self._merged(node["allOf"], depth)
        kind = node.get("type")
        if isinstance(kind, list):
            kind = "null" if "null" in kind and (self.nothing or depth > _DEPTH) else kind[0]
        match kind:
            case "string":
                return self._string(node)
            case "integer" | "number":
                return self._number(node, kind == "integer")
            case "boolean":
                return self.rng.random() < 0.5
            case "array":
                return self._array(node, depth)
            case "null":
                return None
            case _ if kind == "object" or "properties" in node:
                return self._object(node, depth)
            case _:
                return self.rng.choice(self.phrases)

    def _option(self, options: Sequence[Any], depth: int) -> Any:
        resolved = [resolve(option, self.root) for option in options]
        null = next((option for option in resolved if option.get("type") == "null"), None)
        if null is not None and (self.nothing or depth > _DEPTH):
            return null
        real = [option for option in resolved if option is not null]
        if depth > _DEPTH:
            # A leaf ends the recursion; an object might not.
            return next((option for option in real if option.get("type") not in ("object", "array")), real[0])
        return self.rng.choice(real) if real else null

    def _merged(self, parts: Sequence[Any], depth: int) -> Any:
        if len(parts) == 1:
            return self.value(parts[0], depth)
        merged: dict[str, Any] = {}
        for part in parts:
            value = self.value(part, depth)
            if not isinstance(value, dict):
                return value
            merged.update(value)
        return merged

    def _string(self, node: Mapping[str, Any]) -> str:
        if node.get("format") in _FORMATS:
            return _FORMATS[node["format"]]
        text = "" if self.nothing else self.rng.choice(self.phrases)
        text = text[: node.get("maxLength", 40)]
        return text.ljust(node.get("minLength", 0), ".")

    def _number(self, node: Mapping[str, Any], whole: bool) -> int | float:
        low = node.get("minimum", node.get("exclusiveMinimum"))
        high = node.get("maximum", node.get("exclusiveMaximum"))
        if low is None and high is None:
            low, high = 1, 5
        elif low is None:
            low = high - 4
        elif high is None:
            high = low + 4
        step = node.get("multipleOf")
        if step:
            first = -(-low // step) * step
            return first + step if first == node.get("exclusiveMinimum") else first  # type: ignore[no-any-return]
        if whole:
            least = low + 1 if low == node.get("exclusiveMinimum") else -(-low // 1)
            most = high - 1 if high == node.get("exclusiveMaximum") else high // 1
            return self.rng.randint(int(least), max(int(least), int(most)))
        return float(low + (high - low) * (0.25 + self.rng.random() / 2))

    def _array(self, node: Mapping[str, Any], depth: int) -> list[Any]:
        fixed = [self.value(part, depth + 1) for part in node.get("prefixItems", ())]
        least = node.get("minItems", 0)
        wanted = 0 if self.nothing or depth > _DEPTH else self.rng.randint(1, 3)
        size = min(max(least, wanted), node.get("maxItems", 10))
        items = node.get("items", not fixed)
        if items is False:
            return fixed
        result = fixed
        for _ in range(10 * size):
            if len(result) >= size:
                break
            value = self.value({} if items is True else items, depth + 1)
            if value not in result or not (node.get("uniqueItems") or len(result) >= least):
                result.append(value)
        return result

    def _object(self, node: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = node.get("properties", {})
        required = node.get("required", ())
        return {
            name: self.value(part, depth + 1)
            for name, part in properties.items()
            if name in required or depth <= _DEPTH
        }
