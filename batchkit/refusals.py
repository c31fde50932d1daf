"""What refused creates teach about the next one, and whom they need. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import attrs

from batchkit.doubt import Cause, Refused
from batchkit.errors import OverBudget
from batchkit.model import NANO, Batch, Need
from batchkit.printing import dollars
from batchkit.states import BatchState

__all__ = ["Refusals", "budget_need", "money_need", "need_of", "person_need", "workspace_need"]

MINUTE = 60.0
HOUR = 3_600.0


@attrs.frozen(kw_only=True)
class Refusals:
    """What the refusals of a run's batches teach. Derived from the store, so a restart knows it too."""

    batches: Sequence[Batch]
    now: float

    @property
    def refusals(self) -> list[tuple[Batch, Mapping[str, object]]]:
        """The rejected batches, oldest first, each with what was noted of its refusal."""
        found: list[tuple[Batch, Mapping[str, object]]] = []
        for batch in self.batches:
            refused = batch.notes.get("refused")
            if batch.state is BatchState.REJECTED and isinstance(refused, Mapping):
                found.append((batch, refused))
        return found

    @property
    def learned_bytes(self) -> int | None:
        """Half of the smallest body that was too large."""
        sizes = [
            batch.size // 2
            for batch, refused in self.refusals
            if refused.get("cause") == Cause.TOO_LARGE.value and batch.count > 1
        ]
        return min(sizes, default=None)

    @property
    def queue_limit(self) -> int:
        """The least ceiling that a full queue of the last hour taught."""
        return min(
            (
                limit
                for _, refused in self.refusals
                if isinstance(limit := refused.get("queue_limit"), int) and self._recent(refused, HOUR)
            ),
            default=1 << 62,
        )

    @property
    def wait_until(self) -> float | None:
        """When the last refusal lets us try again; None: now."""
        if not self.refusals:
            return None
        refused = self.refusals[-1][1]
        at, until = refused.get("at"), refused.get("retry_at")
        if not isinstance(until, int | float) or not isinstance(at, int | float):
            return None
        # A refusal that is yet to come: the clock was set back since, by who knows how much.
        return float(until) if at <= self.now < until else None

    @property
    def why(self) -> str:
        """Why that is."""
        return str(self.refusals[-1][1].get("cause", "")) if self.refusals else ""

    @property
    def backoff(self) -> float:
        """Seconds to wait after one more refusal: a minute, doubled by each of the last hour, 15 minutes at most."""
        recent = sum(self._recent(refused, HOUR) for _, refused in self.refusals)
        return float(min(MINUTE * 2 ** min(recent, 4), 900.0))

    def _recent(self, refused: Mapping[str, object], seconds: float) -> bool:
        at = refused.get("at")
        return isinstance(at, int | float) and 0 <= self.now - at < seconds


def need_of(verdict: Refused) -> Need | None:
    """Say what somebody must do about a refusal; None where waiting or splitting helps."""
    if verdict.cause is Cause.MONEY:
        return money_need(verdict.message)
    if verdict.cause is Cause.PERSON:
        return person_need(f"HTTP {verdict.status}: {verdict.message}")
    return None


def money_need(message: str) -> Need:
    """Ask for money, with the API's own words."""
    return Need(
        who="money",
        why=f"the provider takes no batch: {message}. No row was touched",
        fix="raise the limit or add credit at the provider, then: python -m batchkit resume STORE RUN",
        code="api.credit",
    )


def person_need(message: str) -> Need:
    """Ask a person, with the API's own words."""
    return Need(
        who="person",
        why=f"the API refused: {message}. No row was touched",
        fix="mend what it names, then: python -m batchkit resume STORE RUN",
        code="api.refused",
    )


def budget_need(error: OverBudget) -> Need:
    """Ask for a higher cap, and say what the next batch would set aside."""
    free = max(error.cap - error.spent - error.reserved, 0)
    return Need(
        who="money",
        why=(
            f"next batch reserves {_usd(error.wanted)}; {_usd(free)} of the {_usd(error.cap)} cap "
            f"is free ({_usd(error.spent)} spent, {_usd(error.reserved)} reserved). Nothing is lost"
        ),
        fix=f"python -m batchkit budget STORE --usd {-(-(error.cap + error.wanted - free) // NANO)} --by YOU",
        code="budget",
    )


def _usd(nano: int) -> str:
    return dollars(Decimal(nano) / NANO)


def workspace_need(found: str, wanted: str) -> Need:
    """Ask for a credential of the workspace that the run is meant for."""
    return Need(
        who="person",
        why=f"the credential belongs to workspace {found}, the run is meant for {wanted}; nothing was sent",
        fix="use a key of that workspace",
        code="api.workspace",
    )
