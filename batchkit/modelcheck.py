"""Whether the API knows the models that a run names: a wrong one fails every row, hours later and one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, Protocol

from batchkit.errors import ProviderError
from batchkit.model import Need
from batchkit.tier import Tier

__all__ = ["CODE", "OVERRULED", "ModelCheck", "Models"]

CODE: Final = "api.model"
"""The need's code."""
OVERRULED: Final = "models_overruled"
"""The option of a run that was paused for a model once: whoever lets it go on knows better."""
_NAMED = 5


class Models(Protocol):
    """What the check needs of a gateway."""

    def model(self, name: str) -> Mapping[str, Any]:
        """Read one model; ``ProviderError`` of kind ``not_found_error`` where there is none of that name."""
        ...

    def models(self) -> Sequence[str]:
        """List the models' names."""
        ...


class ModelCheck:
    """Asks after every tier's model, once in the life of a process."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        """Prepare to ask after the models of these tiers."""
        self._tiers = tiers
        self._asked: set[str] = set()

    def look(self, gateway: Models) -> Need | None:
        """Give whom it needs that the API does not know a model, if it does not.

        Only a clear no counts: the name is not found, in the API's own words, and a list of models is there and
        does not have it. An endpoint that cannot be reached, or has no models to show, is no obstacle.
        """
        for number, tier in enumerate(self._tiers):
            if tier.model in self._asked:
                continue
            names = self._others(gateway, tier.model)
            if names and tier.model not in names:
                return _need(number, tier.model, names)
            self._asked.add(tier.model)
        return None

    def _others(self, gateway: Models, name: str) -> Sequence[str]:
        """Give the names of all models where this one is not found, else nothing."""
        try:
            gateway.model(name)
        except ProviderError as error:
            if (
                error.kind != "not_found_error"
            ):  # a gateway that has no such route answers 404 in its own words
                return ()
        else:
            return ()
        try:
            return gateway.models()
        except ProviderError:
            return ()


def _need(number: int, name: str, names: Sequence[str]) -> Need:
    near = get_close_matches(name, names, n=1)
    known = (
        f"the nearest it knows is {near[0]!r}" if near else f"it knows {', '.join(names[:_NAMED])} and others"
    )
    return Need(
        who="person",
        why=f"the API knows no model {name!r}, which tier {number} names; {known}. Every row sent to it would fail, "
        "hours later. No row was sent",
        fix="python -m batchkit cancel STORE RUN, and start a run of another name with that tier put right; or, if the "
        "name is right: python -m batchkit resume STORE RUN",
        code=CODE,
    )
