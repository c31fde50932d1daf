"""How often each kind of model goes wrong: the error profiles of the simulated model.

The figures are invented, and higher than a good prompt with structured output
sees from the real API: their purpose is a tail of every kind that a pipeline
must handle. `NO_FAULTS` switches all of them off.
"""

from __future__ import annotations

import attrs

__all__ = ["NO_FAULTS", "Profile", "Rates"]


def _share(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} is a share of rows between 0 and 1, not {value!r}")


def _rate() -> float:
    rate: float = attrs.field(default=0.0, validator=_share)
    return rate


@attrs.frozen(kw_only=True)
class Rates:
    """Shares of rows, each between 0 and 1, that go wrong in one way.

    Attributes:
        invented_category: A category that the contract does not know.
        wrong_case: The right category in the wrong case.
        long_summary: A summary of more than 120 characters.
        six_features: One feature too many.
        extra_key: A key that nobody asked for.
        prose: Sentences around the JSON.
        fenced: The JSON in a code fence.
        trailing_comma: Almost JSON.
        runaway: An answer that does not stop: it needs 320 tokens or more, and is cut at ``max_tokens``.
        refusal: A refusal.
        empty: No content at all.
        confident_sparse: Of the rows that say too little: answered with invention although asked for null.
        expired: Unpaid: not processed within 24 hours.
        overloaded: Unpaid: an ``overloaded_error``.
        api_error: Unpaid: an ``api_error``.
    """

    invented_category: float = _rate()
    wrong_case: float = _rate()
    long_summary: float = _rate()
    six_features: float = _rate()
    extra_key: float = _rate()
    prose: float = _rate()
    fenced: float = _rate()
    trailing_comma: float = _rate()
    runaway: float = _rate()
    refusal: float = _rate()
    empty: float = _rate()
    confident_sparse: float = _rate()
    expired: float = _rate()
    overloaded: float = _rate()
    api_error: float = _rate()

    def faults(self) -> dict[str, float]:
        """Return the rates of paid answers that are off, by name."""
        unpaid = self.unpaid()
        return {
            name: rate
            for name, rate in attrs.asdict(self).items()
            if name not in unpaid and name != "confident_sparse"
        }

    def unpaid(self) -> dict[str, float]:
        """Return the rates of rows without an answer, by name."""
        return {"expired": self.expired, "overloaded": self.overloaded, "api_error": self.api_error}


_HAIKU = Rates(
    invented_category=0.012,
    wrong_case=0.004,
    long_summary=0.008,
    six_features=0.005,
    extra_key=0.001,
    prose=0.003,
    fenced=0.003,
    trailing_comma=0.002,
    runaway=0.003,
    refusal=0.0015,
    empty=0.001,
    confident_sparse=0.015,
    expired=0.003,
    overloaded=0.003,
    api_error=0.001,
)
_SONNET = Rates(
    invented_category=0.0015,
    wrong_case=0.0005,
    long_summary=0.0015,
    six_features=0.0005,
    prose=0.0005,
    runaway=0.0005,
    refusal=0.001,
    confident_sparse=0.002,
    expired=0.001,
    overloaded=0.0015,
    api_error=0.0005,
)
_OPUS = Rates(long_summary=0.0005, refusal=0.0005, expired=0.0005, overloaded=0.0005)


@attrs.frozen(kw_only=True)
class Profile:
    """The rates of each line of models; the larger the model, the better.

    Attributes:
        haiku: For models with ``haiku`` in their id.
        sonnet: For models with ``sonnet`` in their id.
        opus: For models with ``opus`` in their id.
        other: For all others.
    """

    haiku: Rates = _HAIKU
    sonnet: Rates = _SONNET
    opus: Rates = _OPUS
    other: Rates = _OPUS

    def rates(self, model: str) -> Rates:
        """Return the rates of the model with this id."""
        for line, rates in (("haiku", self.haiku), ("sonnet", self.sonnet), ("opus", self.opus)):
            if line in model:
                return rates
        return self.other


NO_FAULTS = Profile(haiku=Rates(), sonnet=Rates(), opus=Rates(), other=Rates())
"""Every model answers in the asked shape; prompts still matter, and adapters still confuse."""
