"""What a token costs: dated data per model, prompt size, cache kind and way of sending. Nothing is derived."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

import attrs
from attrs.validators import instance_of

from batchkit.errors import UsageError

PICO: Final = 1_000
"""Pico-dollars in one nano-dollar. Rates are in pico-dollars per token, so that half a nano-dollar is exact."""

AS_OF: Final = "2026-11-22"
"""The day the table below was read."""


def _rate(value: object) -> int:
    """Turn dollars per million tokens into pico-dollars per token."""
    try:
        exact = Decimal(str(value)) * 1_000_000
    except InvalidOperation:
        exact = Decimal(-1)
    if not exact.is_finite() or exact < 0 or exact != exact.to_integral_value():
        raise UsageError(f"a rate is dollars per million tokens with at most six decimals, not {value!r}")
    return int(exact)


@attrs.frozen
class Rates:
    """Dollars per million tokens, kept as integer pico-dollars per token.

    Every kind is stated, none is a ratio of another. Pass text or Decimal ("0.05"), not a product of floats.
    """

    input: int = attrs.field(converter=_rate)
    output: int = attrs.field(converter=_rate)
    cache_write_5m: int = attrs.field(converter=_rate)
    cache_write_1h: int = attrs.field(converter=_rate)
    cache_read: int = attrs.field(converter=_rate)


@attrs.frozen(kw_only=True)
class PriceStep:
    """The rates from one prompt size on.

    Attributes:
        above: Prompt tokens (cached ones included) that must be exceeded; 0 for the first step.
        batch: Rates of requests in a batch.
        standard: Rates of requests sent one by one.
    """

    above: int = 0
    batch: Rates
    standard: Rates


def _tuple(steps: Iterable[PriceStep]) -> tuple[PriceStep, ...]:
    return tuple(steps)


def _ordered(
    instance: object, attribute: attrs.Attribute[tuple[PriceStep, ...]], steps: tuple[PriceStep, ...]
) -> None:
    sizes = [step.above for step in steps]
    if not sizes or sizes[0] != 0 or sizes != sorted(set(sizes)):
        raise UsageError(f"a price's steps begin above 0 tokens and rise; these begin above {sizes}")


@attrs.frozen(kw_only=True)
class Price:
    """What one model costs.

    Attributes:
        steps: By prompt size, smallest first.
        as_of: The day it was read, ISO 8601.
    """

    steps: tuple[PriceStep, ...] = attrs.field(converter=_tuple, validator=_ordered)
    as_of: str = attrs.field(default=AS_OF, validator=instance_of(str))

    @classmethod
    def flat(cls, *, batch: Rates, standard: Rates, as_of: str = AS_OF) -> Price:
        """Make a price that does not depend on the prompt's size."""
        return cls(steps=(PriceStep(batch=batch, standard=standard),), as_of=as_of)

    def rates(self, prompt_tokens: int, *, batch: bool = True) -> Rates:
        """Give the rates of a request with this many prompt tokens, cached ones included."""
        step = self.steps[0]
        for later in self.steps[1:]:
            if prompt_tokens > later.above:
                step = later
        return step.batch if batch else step.standard

    def document(self) -> dict[str, object]:
        """Give the JSON-able form; rates in pico-dollars per token."""
        return attrs.asdict(self)

    @classmethod
    def load(cls, document: Mapping[str, object]) -> Price:
        """Make the price that :meth:`document` described."""
        steps = document["steps"]
        assert isinstance(steps, list | tuple)
        made = [
            PriceStep(above=s["above"], batch=_from_pico(s["batch"]), standard=_from_pico(s["standard"]))
            for s in steps
        ]
        return cls(steps=tuple(made), as_of=str(document["as_of"]))


def _from_pico(rates: Mapping[str, int]) -> Rates:
    return Rates(**{name: Decimal(pico) / 1_000_000 for name, pico in rates.items()})


def _price(standard: str, batch: str) -> Price:
    """Read two lines of five figures: input, output, cache write for 5 min, for 1 h, cache read."""
    return Price.flat(standard=_rates(standard), batch=_rates(batch))


def _rates(figures: str) -> Rates:
    return Rates(*figures.split())


_HAIKU_5_5 = Price(
    steps=(
        PriceStep(standard=_rates("0.10 0.50 0.125 0.20 0.01"), batch=_rates("0.05 0.25 0.0625 0.10 0.005")),
        PriceStep(
            above=100_000,
            standard=_rates("0.50 2.50 0.625 1.00 0.05"),
            batch=_rates("0.25 1.25 0.3125 0.50 0.025"),
        ),
    )
)
_HAIKU_4_5 = _price("1 5 1.25 2 0.10", "0.50 2.50 0.625 1 0.05")
_SONNET_5 = _price("2 10 2.50 4 0.20", "1 5 1.25 2 0.10")
_SONNET_4 = _price("3 15 3.75 6 0.30", "1.50 7.50 1.875 3 0.15")
_OPUS_5_5 = _price("4 20 5 8 0.20", "2 10 2.50 4 0.10")
_OPUS_5 = _price("5 25 6.25 10 0.50", "2.50 12.50 3.125 5 0.25")
_FABLE_5_2 = _price("8 40 10 16 0.80", "4 20 5 8 0.40")
_FABLE_5 = _price("10 50 12.50 20 1", "5 25 6.25 10 0.50")

PRICES: Final[Mapping[str, Price]] = {
    "claude-haiku-5-5": _HAIKU_5_5,
    "claude-haiku-4-5": _HAIKU_4_5,
    "claude-sonnet-5-5": _SONNET_5,
    "claude-sonnet-5": _SONNET_5,
    "claude-sonnet-4-6": _SONNET_4,
    "claude-sonnet-4-5": _SONNET_4,
    "claude-opus-5-5": _OPUS_5_5,
    "claude-opus-5": _OPUS_5,
    "claude-opus-4-8": _OPUS_5,
    "claude-opus-4-7": _OPUS_5,
    "claude-opus-4-6": _OPUS_5,
    "claude-opus-4-5": _OPUS_5,
    "claude-fable-5-2": _FABLE_5_2,
    "claude-fable-5-1": _FABLE_5,
    "claude-fable-5": _FABLE_5,
}
"""Prices by model name without its date suffix."""

_DATED = re.compile(r"-\d{8}$")


def price_of(model: str, overrides: Mapping[str, Price] | None = None) -> Price | None:
    """Give a model's price: an override first, then the table; a dated name (``-20251001``) has its family's price.

    None means unknown, never free.
    """
    base = _DATED.sub("", model)
    for table in (overrides or {}, PRICES):
        for name in (model, base):
            if name in table:
                return table[name]
    return None


def known_price(model: str, overrides: Mapping[str, Price] | None = None) -> Price:
    """Give a model's price.

    Raises:
        UsageError: it is not known; the message says how to state it.
    """
    price = price_of(model, overrides)
    if price is None:
        raise UsageError(
            f"no price is known for {model!r}, and an unknown price is not zero. "
            f"State it: prices={{{model!r}: Price.flat(batch=Rates(...), standard=Rates(...))}}."
        )
    return price
