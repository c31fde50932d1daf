"""How two specs differ, in words a person reads before starting again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import attrs

_SHORT = 40


@attrs.frozen(kw_only=True)
class Change:
    """One difference. ``before`` and ``after`` are plain JSON values; None where there was or is nothing."""

    path: str
    text: str
    before: Any = attrs.field(default=None, repr=False, hash=False)
    after: Any = attrs.field(default=None, repr=False, hash=False)

    def __str__(self) -> str:
        """Give the line for people."""
        return f"{self.path}{self.text}"


@attrs.frozen
class SpecDiff:
    """The differences between two specs, in the order of the document. Its text is one line.

    Attributes:
        changes: Empty where the specs are the same.
    """

    changes: tuple[Change, ...] = ()

    @classmethod
    def between(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> SpecDiff:
        """Compare two documents of :meth:`batchkit.Spec.document`."""
        return cls(tuple(_changes(before, after)))

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.changes)

    def __str__(self) -> str:
        """Give one line, such as ``prompt.system: 1 line changed; tiers: same``."""
        if not self.changes:
            return "same"
        parts = [str(change) for change in self.changes]
        if not any(change.path.startswith("tiers") for change in self.changes):
            parts.append("tiers: same")
        return "; ".join(parts)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    yield from _contract(before["contract"], after["contract"])
    yield from _prompt("prompt", before["prompt"], after["prompt"])
    for name in ("key", "prefix"):
        yield from _value(name, before[name], after[name])
    yield from _tiers(before["tiers"], after["tiers"])
    yield from _policy(before["policy"], after["policy"])
    yield from _names("metadata", before["metadata"], after["metadata"])


def _contract(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    old, new = before["schema"], after["schema"]
    if _ordered(old) != _ordered(new):
        was, now = old.get("properties", {}), new.get("properties", {})
        parts = [f"+{name}" for name in now if name not in was] + [
            f"-{name}" for name in was if name not in now
        ]
        parts += [f"{name} changed" for name in now if name in was and was[name] != now[name]]
        if not parts and list(was) != list(now):
            parts = ["fields reordered"]
        yield Change(path="contract.schema", text=f": {', '.join(parts) or 'changed'}", before=old, after=new)
    rules_before = {rule["name"]: rule for rule in before["rules"]}
    rules_after = {rule["name"]: rule for rule in after["rules"]}
    if before["rules"] != after["rules"]:
        parts = [f"+{name}" for name in rules_after if name not in rules_before]
        parts += [f"-{name}" for name in rules_before if name not in rules_after]
        parts += [
            f"{name} {_version(rules_before[name], rule)}"
            for name, rule in rules_after.items()
            if name in rules_before and rule != rules_before[name]
        ]
        text = f": {', '.join(parts) or 'reordered'}"
        yield Change(path="contract.rules", text=text, before=before["rules"], after=after["rules"])
    for name in ("sparse", "sparse_input", "lenient"):
        if before[name] != after[name]:
            yield Change(path=f"contract.{name}", text=": changed", before=before[name], after=after[name])


def _version(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if before["version"] == after["version"]:
        return "changed"
    return f"version {before['version']} → {after['version']}"


def _prompt(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in ("system", "user"):
        if before[name] != after[name]:
            text = f": {_lines(before[name], after[name])}"
            yield Change(path=f"{path}.{name}", text=text, before=before[name], after=after[name])
    old, new = [[_ordered(example) for example in side["examples"]] for side in (before, after)]
    if old != new:
        added, gone = _delta(old, new)
        text = " ".join([f"+{added}"] * bool(added) + [f"-{gone}"] * bool(gone)) or "reordered"
        yield Change(
            path=f"{path}.examples", text=f" {text}", before=before["examples"], after=after["examples"]
        )
    yield from _value(f"{path}.missing", before["missing"], after["missing"])


def _lines(before: str, after: str) -> str:
    matcher = SequenceMatcher(None, before.split("\n"), after.split("\n"), autojunk=False)
    changed = added = gone = 0
    for _, i1, i2, j1, j2 in (code for code in matcher.get_opcodes() if code[0] != "equal"):
        both = min(i2 - i1, j2 - j1)
        changed, gone, added = changed + both, gone + i2 - i1 - both, added + j2 - j1 - both
    counts = ((changed, "changed"), (added, "added"), (gone, "removed"))
    return ", ".join(f"{n} line{'s' * (n > 1)} {what}" for n, what in counts if n)


def _ordered(value: object) -> str:
    """Give a value as text, in which the order of keys counts: it is the order in which models read and write."""
    return json.dumps(value, ensure_ascii=False)


def _delta(before: Sequence[Any], after: Sequence[Any]) -> tuple[int, int]:
    left = list(before)
    added = 0
    for item in after:
        if item in left:
            left.remove(item)
        else:
            added += 1
    return added, len(left)


def _tiers(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    for number in range(max(len(before), len(after))):
        path = f"tiers[{number}]"
        if number >= len(before):
            yield Change(path=path, text=f": +{after[number]['model']}", after=after[number])
        elif number >= len(after):
            yield Change(path=path, text=f": -{before[number]['model']}", before=before[number])
        else:
            old, new = before[number], after[number]
            for name in old:
                if name == "prompt" and old[name] and new[name]:
                    yield from _prompt(f"{path}.prompt", old[name], new[name])
                else:
                    yield from _value(f"{path}.{name}", old[name], new[name])


def _policy(before: Sequence[Any], after: Sequence[Any]) -> Iterator[Change]:
    old, new = dict(before), dict(after)
    for glob in {**old, **new}:
        if old.get(glob) != new.get(glob):
            text = f": {_steps(old.get(glob))} → {_steps(new.get(glob))}"
            yield Change(path=f"policy[{glob}]", text=text, before=old.get(glob), after=new.get(glob))
    if not any(old.get(glob) != new.get(glob) for glob in {**old, **new}) and list(before) != list(after):
        yield Change(path="policy", text=": reordered", before=before, after=after)


def _steps(ladder: Sequence[Mapping[str, Any]] | None) -> str:
    return ", ".join(step["step"] for step in ladder) if ladder else "nothing"


def _names(path: str, before: Sequence[str], after: Sequence[str]) -> Iterator[Change]:
    if before != after:
        parts = [f"+{n}" for n in after if n not in before] + [f"-{n}" for n in before if n not in after]
        yield Change(path=path, text=f": {', '.join(parts) or 'reordered'}", before=before, after=after)


def _value(path: str, before: Any, after: Any) -> Iterator[Change]:
    if before != after:
        old, new = _brief(before), _brief(after)
        yield Change(
            path=path, text=f": {old} → {new}" if old and new else ": changed", before=before, after=after
        )


def _brief(value: Any) -> str:
    return repr(value) if isinstance(value, (str, int, float)) and len(repr(value)) <= _SHORT else ""
