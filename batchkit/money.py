"""Amounts as integers of nano-dollars, counted from tokens and dated prices; rounded up, never down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias

import attrs

from batchkit.errors import UsageError
from batchkit.model import NANO, Usage
from batchkit.prices import PICO, PRICES, Price, PriceStep, Rates, known_price, price_of

__all__ = [
    "PRICES",
    "Budget",
    "Coster",
    "Price",
    "PriceStep",
    "Rates",
    "cost",
    "coster",
    "expected",
    "from_usd",
    "known_price",
    "price_of",
    "usd",
    "worst_case",
]

Coster: TypeAlias = Callable[[tuple[int, int, int, int, int]], int]
"""Counts the cost of the tokens of one answer; they come in the order of `Usage`."""

OVERHEAD: Final = 200
"""Tokens that the provider may add to a prompt for its own framing and for structured output."""

_CHARACTERS: Final = 4
"""Characters of a token, on average; newer tokenizers count about 30 % more tokens."""


def cost(usage: Usage, price: Price, *, batch: bool = True) -> int:
    """Give what one answer was billed, in nano-dollars, rounded up to the next whole one.

    Args:
        usage: The tokens.
        price: Of the model that answered.
        batch: Whether the request went in a batch.
    """
    prompt = usage.input + usage.cache_write_5m + usage.cache_write_1h + usage.cache_read
    rates = price.rates(prompt, batch=batch)
    pico = (
        usage.input * rates.input
        + usage.output * rates.output
        + usage.cache_write_5m * rates.cache_write_5m
        + usage.cache_write_1h * rates.cache_write_1h
        + usage.cache_read * rates.cache_read
    )
    return -(-pico // PICO)


def coster(price: Price, *, batch: bool = True) -> Coster:
    """Give `cost` for one price, as a function to be asked for every line of a batch."""
    if len(price.steps) > 1:
        return lambda usage: cost(Usage(*usage), price, batch=batch)
    rates = price.rates(0, batch=batch)
    fresh_rate, spoken_rate, read_rate = rates.input, rates.output, rates.cache_read
    short_rate, long_rate = rates.cache_write_5m, rates.cache_write_1h

    def quick(usage: tuple[int, int, int, int, int]) -> int:
        fresh, spoken, short, long, read = usage
        pico = fresh * fresh_rate + spoken * spoken_rate
        if short or long or read:
            pico += short * short_rate + long * long_rate + read * read_rate
        return -(-pico // PICO)

    return quick


def worst_case(
    input_bytes: int, max_tokens: int, price: Price, *, batch: bool = True, cached: bool = True
) -> int:
    """Give the most that one request can cost, in nano-dollars.

    A token is one byte of UTF-8 at least, so bytes bound tokens; every token is taken at the dearest kind of input
    and at the dearest prompt size within reach. That is several times what is billed in the end.

    Args:
        input_bytes: Bytes of the request's text.
        max_tokens: Its cap.
        price: Of its model.
        batch: Whether it goes in a batch.
        cached: Whether it has a cache breakpoint, so that its tokens may be billed as cache writes.
    """
    tokens = input_bytes + OVERHEAD
    most = 0
    for step in price.steps:
        if step.above and step.above >= tokens:
            continue
        rates = step.batch if batch else step.standard
        dearest = rates.input
        if cached:
            dearest = max(dearest, rates.cache_write_5m, rates.cache_write_1h, rates.cache_read)
        most = max(most, tokens * dearest + max_tokens * rates.output)
    return -(-most // PICO)


def expected(input_characters: int, output_tokens: int, price: Price, *, batch: bool = True) -> int:
    """Give about what one request costs, in nano-dollars: four characters to a token, nothing cached.

    Args:
        input_characters: Of the request's text.
        output_tokens: Of a usual answer.
        price: Of its model.
        batch: Whether it goes in a batch.
    """
    tokens = -(-input_characters // _CHARACTERS)
    return cost(Usage(input=tokens, output=output_tokens), price, batch=batch)


def usd(nano: int) -> Decimal:
    """Give nano-dollars as dollars, exactly."""
    return Decimal(nano).scaleb(-9)


def from_usd(amount: Decimal | float | str) -> int:
    """Give dollars as nano-dollars; what is finer than a nano-dollar is cut off.

    Raises:
        UsageError: it is no amount.
    """
    try:
        exact = Decimal(str(amount))
    except InvalidOperation:
        exact = Decimal("NaN")
    if isinstance(amount, bool) or not exact.is_finite():
        raise UsageError(f"an amount is a number of dollars, not {amount!r}")
    return int(exact * NANO)


def _cap(instance: object, attribute: object, amount: Decimal | float | str) -> None:
    if from_usd(amount) <= 0:
        raise UsageError(f"a budget is more than 0 dollars, not {amount!r}")


def _shares(shares: Iterable[float]) -> tuple[float, ...]:
    made = tuple(sorted(float(share) for share in shares))
    if any(not 0 < share < 1 for share in made):
        raise UsageError(f"warn_at holds shares between 0 and 1, not {made}")
    return made


@attrs.frozen
class Budget:
    """A cap on what one store may spend, and the shares of it at which to warn.

    Attributes:
        usd: Dollars.
        warn_at: Shares of the cap, each between 0 and 1.
    """

    usd: Decimal | float | str = attrs.field(validator=_cap)
    warn_at: tuple[float, ...] = attrs.field(default=(0.5, 0.8), kw_only=True, converter=_shares)

    @property
    def nano(self) -> int:
        """The cap in nano-dollars."""
        return from_usd(self.usd)
