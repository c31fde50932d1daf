"""Column names: whether the rows have what the spec asks for, each name once."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from batchkit.errors import MissingField, UsageError


def require(wanted: Iterable[tuple[str, str]], have: Iterable[str]) -> None:
    """Make sure that the rows have every field that is asked for.

    Args:
        wanted: Pairs of a field's name and who asks for it, such as ``("title", "the prompt uses {title}")``.
        have: The names that the rows have.

    Raises:
        MissingField: a wanted field is not there.
    """
    names = list(dict.fromkeys(have))
    for name, who in wanted:
        if name in names:
            continue
        listed = ", ".join(sorted(names)[:40]) or "no fields at all"
        braces = "{{{}}}" if "{" in who else "{!r}"
        raise MissingField(f"{who}; the rows have {listed}.{_hint(name, names, braces)}")


def _hint(name: str, names: list[str], braces: str) -> str:
    folded = {have.strip().lstrip("\ufeff").casefold(): have for have in names}
    same = folded.get(name.strip().casefold())
    close = [same] if same is not None else get_close_matches(name, names, n=1)
    if close:
        return f" Did you mean {braces.format(close[0])}?"
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        mark = next(mark for mark in ";\t|" if mark in names[0])
        return (
            f" Its cells are separated by {mark!r}: pass them read, "
            f"lambda: csv.DictReader(open(path, newline='', encoding='utf-8'), delimiter={mark!r})."
        )
    return ""


def unique(names: Iterable[str], *, where: str) -> tuple[str, ...]:
    """Give the column names as a tuple.

    Raises:
        UsageError: a name stands there twice, so that one column would hide the other.
    """
    seen = tuple(names)
    repeated = sorted({name for name in seen if name and seen.count(name) > 1})
    if repeated:
        raise UsageError(
            f"{where} has {len(repeated)} column name(s) more than once: {', '.join(map(repr, repeated[:5]))}. "
            "One would hide the other; rename them."
        )
    return seen
