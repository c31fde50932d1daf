"""What answers cost: by tier, and by the model that really answered."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from batchkit.money import Coster, coster, price_of
from batchkit.prices import Price
from batchkit.tier import Tier

__all__ = ["Pricing"]


@attrs.frozen(kw_only=True)
class Pricing:
    """Prices by tier and by the model that really answered."""

    tiers: tuple[Tier, ...]
    prices: Mapping[str, Price]
    _known: dict[tuple[int, str], Price | None] = attrs.field(factory=dict, init=False)

    def of(self, tier: int, model: str) -> Price | None:
        """Give the price of an answer, or None where none is known."""
        key = (tier, model)
        if key not in self._known:
            asked = self.tiers[tier]
            # A dated name is the same model under its full name.
            same = not model or model.startswith(asked.model)
            own = asked.price or price_of(asked.model, self.prices)
            self._known[key] = own if same else price_of(model, self.prices) or own
        return self._known[key]

    def coster(self, tier: int, model: str) -> Coster | None:
        """Give what an answer's cost is counted with, or None where no price is known."""
        price = self.of(tier, model)
        return None if price is None else coster(price)
