"""Which rows are meant: codes and tiers, which a store applies, and predicates, which read every row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import attrs

from batchkit.errors import UsageError
from batchkit.fixes import meant
from batchkit.model import RowView
from batchkit.reasons import Reason
from batchkit.states import Outcome, outcome

V = TypeVar("V")

Outcomes: TypeAlias = "str | Outcome | Iterable[str | Outcome]"
Reasons: TypeAlias = "str | Reason | Iterable[str | Reason]"
SourceTest: TypeAlias = "Callable[[Mapping[str, str | None]], object]"


@attrs.frozen(kw_only=True)
class Filter:
    """What :meth:`batchkit.Rows.where` was told. Codes and tier are applied by the store, predicates here."""

    keys: tuple[str, ...] | None = None
    outcome: frozenset[Outcome] | None = None
    reason: frozenset[Reason] | None = None
    tier: frozenset[int] | None = None
    output: tuple[Callable[[Any], object], ...] = ()
    source: tuple[SourceTest, ...] = ()

    @property
    def scans(self) -> bool:
        """Tell whether rows have to be read to know whether they match."""
        return bool(self.output or self.source)

    def narrowed(
        self,
        *,
        keys: Iterable[str] | None,
        outcome: Outcomes | None,
        reason: Reasons | None,
        tier: int | Iterable[int] | None,
        output: Callable[[Any], object] | None,
        source: SourceTest | None,
    ) -> Filter:
        """Give a filter that admits what this one and the arguments admit.

        Raises:
            UsageError: an outcome or reason that does not exist.
        """
        return Filter(
            keys=_both_keys(self.keys, keys),
            outcome=_both(self.outcome, None if outcome is None else _outcomes(outcome)),
            reason=_both(self.reason, None if reason is None else _reasons(reason)),
            tier=_both(
                self.tier, None if tier is None else frozenset([tier] if isinstance(tier, int) else tier)
            ),
            output=(*self.output, *([] if output is None else [output])),
            source=(*self.source, *([] if source is None else [source])),
        )

    def admits(self, view: RowView) -> bool:
        """Tell whether the codes and the tier of a row match."""
        return self.admits_codes(outcome(view.state, view.reason), view.reason, view.tier)

    def admits_codes(self, bucket: Outcome, reason: Reason | None, tier: int) -> bool:
        """Tell whether these codes and this tier match."""
        return (
            (self.outcome is None or bucket in self.outcome)
            and (self.reason is None or reason in self.reason)
            and (self.tier is None or tier in self.tier)
        )

    def admits_source(self, fields: Mapping[str, str | None]) -> bool:
        """Tell whether every predicate on the source holds."""
        return all(test(fields) for test in self.source)

    def admits_output(self, value: object) -> bool:
        """Tell whether every predicate on the output holds; they are false of a row without one."""
        return not self.output or (value is not None and all(test(value) for test in self.output))

    def __str__(self) -> str:
        """Give the conditions as text."""
        said = {
            "keys": None if self.keys is None else f"{len(self.keys)}",
            "outcome": _listed(self.outcome),
            "reason": _listed(self.reason),
            "tier": _listed(self.tier),
            "output": "a function" if self.output else None,
            "source": "a function" if self.source else None,
        }
        return ", ".join(f"{name}={text}" for name, text in said.items() if text is not None) or "all"


def _listed(values: Iterable[object] | None) -> str | None:
    return None if values is None else "|".join(sorted(str(getattr(v, "value", v)) for v in values))


def _both(old: frozenset[V] | None, new: frozenset[V] | None) -> frozenset[V] | None:
    if old is None or new is None:
        return old if new is None else new
    return old & new


def _both_keys(old: tuple[str, ...] | None, keys: Iterable[str] | None) -> tuple[str, ...] | None:
    if keys is None:
        return old
    new = dict.fromkeys([keys] if isinstance(keys, str) else keys)
    return tuple(new) if old is None else tuple(key for key in old if key in new)


def _outcomes(given: Outcomes) -> frozenset[Outcome]:
    try:
        return frozenset(Outcome(name) for name in ([given] if isinstance(given, str) else given))
    except ValueError as error:
        known = ", ".join(o.value for o in Outcome)
        raise UsageError(f"{error}: the outcomes are {known}") from None


def _reasons(given: Reasons) -> frozenset[Reason]:
    found: set[Reason] = set()
    for glob in [given] if isinstance(given, str) else given:
        matching = {reason for reason in Reason if reason.matches(str(glob))}
        if not matching:
            hint = meant(str(glob), [reason.value for reason in Reason])
            raise UsageError(f"no reason code matches {str(glob)!r}; batchkit.Reason lists them.{hint}")
        found |= matching
    return frozenset(found)
