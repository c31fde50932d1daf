"""A real SDK client on a simulated API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.testing.answers import Model
from batchkit.testing.clock import Advances, SimulatedClock
from batchkit.testing.profiles import Profile
from batchkit.testing.simulator import Handler, SimulatedAPI

if TYPE_CHECKING:
    import anthropic

__all__ = ["served_client", "simulated_client"]

BASE_URL = "http://simulator.invalid"
"""An address that no resolver knows, so that a request that misses the transport fails."""


def simulated_client(
    *,
    seed: int = 0,
    profile: Profile | None = None,
    api: Handler | None = None,
    model: Model | None = None,
    **settings: Any,
) -> anthropic.Anthropic:
    """Return the real SDK client on a simulator in this process: no key, no network, no cost.

    A :class:`batchkit.Workflow` that is given this client takes its virtual clock too, so waiting costs no time;
    of a wrapper only where it passes ``now`` and ``advance`` on.

    Args:
        seed: Decides ids, durations and answers.
        profile: The error profile of the shipped catalog model; None takes its own.
        api: A simulator, or a wrapper around one, to use instead of a new one; then nothing else may be given.
        model: Answers the requests instead of the shipped catalog model.
        **settings: Further fields of `batchkit.testing.Settings`, and ``state`` for a journal's file.

    Raises:
        TypeError: ``api`` was given together with something that only a new simulator takes.
    """
    import anthropic
    import httpx2

    from batchkit.testing.transport import SimulatedTransport

    if api is None:
        api = SimulatedAPI(model or _shipped_model(profile), seed=seed, **settings)
    elif seed or profile is not None or model is not None or settings:
        raise TypeError("simulated_client(api=...) takes nothing else: the simulator has its own settings")
    client = anthropic.Anthropic(
        api_key="simulated",
        base_url=BASE_URL,
        http_client=httpx2.Client(transport=SimulatedTransport(api), base_url=BASE_URL),
    )
    # A Workflow takes the time of the client it is given, so that waiting moves the simulator's clock.
    if isinstance(api, Advances):
        client.__dict__["batchkit_clock"] = SimulatedClock(api)
    return client


def served_client(url: str) -> anthropic.Anthropic:
    """Return the real SDK client on a simulator that another process serves.

    A :class:`batchkit.Workflow` that is given this client takes the server's virtual clock too.

    Args:
        url: The address that ``python -m batchkit.testing.server`` prints.
    """
    import anthropic

    # A proxy that the environment names is not asked for an address of this machine.
    http = anthropic.DefaultHttpxClient(base_url=url, trust_env=False)
    client = anthropic.Anthropic(api_key="simulated", base_url=url, http_client=http)
    client.__dict__["batchkit_clock"] = SimulatedClock(url)
    return client


def _shipped_model(profile: Profile | None) -> Model:
    from batchkit.testing.catalog_model import catalog_model

    return catalog_model(profile)
