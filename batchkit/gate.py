"""What a pilot must reach before its spec is accepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from batchkit.errors import UsageError
from batchkit.grading import Grade, Share


def _share(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{attribute.name}={value}: a share is between 0 and 1")


def _tags(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise UsageError(f"must_pass is a list of tags, not one text: must_pass=[{given!r}]")
    return tuple(given)


@attrs.frozen(kw_only=True)
class Gate:
    """The shares that a pilot must reach.

    Attributes:
        min_pass: Of all rows, those that are good.
        fields: Of all rows, those in which this field is right, by field.
        must_pass: Groups of which every row must be good, such as ``"tag:empty"``: 95 % overall may hide 0 of 8
            empties.
    """

    min_pass: float = attrs.field(default=0.95, validator=_share)
    fields: Mapping[str, float] = attrs.field(factory=dict, hash=False)
    must_pass: tuple[str, ...] = attrs.field(default=(), converter=_tags)

    def __attrs_post_init__(self) -> None:
        for name, share in self.fields.items():
            if not 0 <= share <= 1:
                raise UsageError(f"fields: {name!r}: {share} is no share between 0 and 1")

    def shortfalls(self, grade: Grade) -> list[str]:
        """Say where a grade stays below the gate; empty where it passes.

        Raises:
            UsageError: the gate speaks of a field that is not scored or a tag that no row has.
        """
        below = []
        if grade.total.share < self.min_pass:
            below.append(_below("rows", grade.total, self.min_pass))
        for name, least in self.fields.items():
            share = _known(name, grade.fields, "field")
            if share.share < least:
                below.append(_below(repr(name), share, least))
        for group in self.must_pass:
            share = _known(group.removeprefix("tag:"), grade.tags, "tag")
            if share.good < share.rows:
                below.append(f"'{group}' {share.good} of {share.rows}, all of which must pass")
        return below

    def document(self) -> dict[str, Any]:
        """Give the JSON-able form."""
        return {"min_pass": self.min_pass, "fields": dict(self.fields), "must_pass": list(self.must_pass)}


def failing_tags(grade: Grade) -> str:
    """Name the groups that fail most, as ``tag 'empty' 3 of 8``: how many of them are good."""
    worst = sorted(
        ((name, share) for name, share in grade.tags.items() if share.good < share.rows),
        key=lambda item: (item[1].share, -item[1].rows),
    )
    return ", ".join(f"tag {name!r} {share.good} of {share.rows}" for name, share in worst[:5])


def _below(what: str, share: Share, least: float) -> str:
    low, high = share.interval
    return f"{what} {share.share:.3g} < {least:g} ({share.good}/{share.rows}; 95 % interval {low:.3f} to {high:.3f})"


def _known(name: str, shares: Mapping[str, Share], what: str) -> Share:
    if name not in shares:
        raise UsageError(f"the gate speaks of {what} {name!r}; there is {', '.join(shares) or 'none'}")
    return shares[name]
