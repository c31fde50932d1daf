"""Amounts: exact, dated, never zero for want of knowledge."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from batchkit.errors import UsageError
from batchkit.model import NANO, Usage
from batchkit.money import (
    PRICES,
    Budget,
    Price,
    PriceStep,
    Rates,
    cost,
    expected,
    from_usd,
    known_price,
    price_of,
    usd,
    worst_case,
)

HAIKU = PRICES["claude-haiku-4-5"]


@pytest.mark.parametrize(
    ("model", "standard", "batch"),
    [
        ("claude-haiku-5-5", (0.10, 0.50), (0.05, 0.25)),
        ("claude-haiku-4-5", (1, 5), (0.5, 2.5)),
        ("claude-sonnet-5-5", (2, 10), (1, 5)),
        ("claude-sonnet-5", (2, 10), (1, 5)),
        ("claude-sonnet-4-6", (3, 15), (1.5, 7.5)),
        ("claude-sonnet-4-5", (3, 15), (1.5, 7.5)),
        ("claude-opus-5-5", (4, 20), (2, 10)),
        ("claude-opus-5", (5, 25), (2.5, 12.5)),
        ("claude-opus-4-8", (5, 25), (2.5, 12.5)),
        ("claude-fable-5-2", (8, 40), (4, 20)),
        ("claude-fable-5-1", (10, 50), (5, 25)),
    ],
)
def test_the_table(model: str, standard: tuple[float, float], batch: tuple[float, float]) -> None:
    """A million tokens in and out cost what the provider's list says, in a batch and outside."""
    million = 1_000_000
    price = PRICES[model]
    for rates, is_batch in ((standard, False), (batch, True)):
        # Below any step of the prompt's size, ten thousand tokens at a time.
        into = 100 * cost(Usage(input=million // 100), price, batch=is_batch)
        out = cost(Usage(output=million), price, batch=is_batch)
        assert (usd(into), usd(out)) == (Decimal(str(rates[0])), Decimal(str(rates[1])))


@pytest.mark.parametrize("model", list(PRICES))
def test_every_price_is_whole(model: str) -> None:
    """Every model has each kind of rate, positive, the cached read cheapest and batches cheaper."""
    for step in PRICES[model].steps:
        for rates in (step.batch, step.standard):
            assert (
                0
                < rates.cache_read
                < rates.input
                < rates.cache_write_5m
                < rates.cache_write_1h
                < rates.output
            )
        assert step.batch.input < step.standard.input
        assert step.batch.output < step.standard.output


def test_every_kind_of_token_has_its_rate() -> None:
    """Input, output, both cache writes and cache reads are charged at their own rates."""
    assert cost(Usage(1_000_000, 0, 0, 0, 0), HAIKU) == NANO // 2
    assert cost(Usage(0, 1_000_000, 0, 0, 0), HAIKU) == 5 * NANO // 2
    assert cost(Usage(0, 0, 1_000_000, 0, 0), HAIKU) == 625_000_000
    assert cost(Usage(0, 0, 0, 1_000_000, 0), HAIKU) == NANO
    assert cost(Usage(0, 0, 0, 0, 1_000_000), HAIKU) == 50_000_000
    assert cost(Usage(310, 60, 0, 0, 0), HAIKU) == 310 * 500 + 60 * 2_500


def test_a_prompts_size_steps_the_price() -> None:
    """Above 100,000 prompt tokens, cached ones included, the dearer rates hold for the whole request."""
    price = PRICES["claude-haiku-5-5"]
    assert cost(Usage(input=100_000), price) == 100_000 * 50
    assert cost(Usage(input=100_001), price) == 100_001 * 250
    assert cost(Usage(input=1, cache_read=100_000, output=10), price) == 250 + 100_000 * 25 + 10 * 1_250


def test_amounts_round_up() -> None:
    """A fraction of a nano-dollar counts as a whole one; never is less booked than billed."""
    haiku = PRICES["claude-haiku-5-5"]
    assert cost(Usage(cache_write_5m=1), haiku) == 63
    assert cost(Usage(cache_write_5m=2), haiku) == 125
    assert cost(Usage(), haiku) == 0


def test_the_worst_case_bounds_every_bill() -> None:
    """No split of the bytes into tokens and no kind of caching costs more than the worst case."""
    for price in PRICES.values():
        most = worst_case(120_000, 300, price)
        for kind in ("input", "cache_write_5m", "cache_write_1h", "cache_read"):
            assert cost(Usage(output=300)._replace(**{kind: 120_000}), price) <= most
    assert worst_case(0, 0, HAIKU) > 0
    assert worst_case(1_000, 300, HAIKU) < worst_case(1_000, 300, HAIKU, batch=False)


def test_the_worst_case_keeps_to_sizes_within_reach() -> None:
    """A small request is not reserved at the rates of a large one."""
    price = PRICES["claude-haiku-5-5"]
    assert worst_case(1_000, 300, price) == 1_200 * 100 + 300 * 250
    assert worst_case(1_000, 300, price, cached=False) == 1_200 * 50 + 300 * 250
    assert worst_case(99_800, 0, price) == 100_000 * 100
    assert worst_case(99_801, 0, price) == 100_001 * 500


def test_the_expected_cost() -> None:
    """About four characters make a token, and nothing is cached."""
    assert expected(1_001, 60, HAIKU) == cost(Usage(input=251, output=60), HAIKU)
    assert expected(1_000, 60, HAIKU, batch=False) == 2 * expected(1_000, 60, HAIKU)


def test_names_with_a_date_have_their_familys_price() -> None:
    """A dated name is its model; an override counts first, by either name."""
    mine = Price.flat(batch=Rates(1, 2, 3, 4, 5), standard=Rates(1, 2, 3, 4, 5))
    assert price_of("claude-haiku-4-5-20251001") is HAIKU
    assert price_of("claude-haiku-4-5-20251001", {"claude-haiku-4-5": mine}) is mine
    assert price_of("house-model", {"house-model": mine}) is mine


def test_an_unknown_price_is_not_zero() -> None:
    """A model without a price has none, and where one is needed the message says how to state it."""
    assert price_of("claude-mythos-5") is None
    with pytest.raises(UsageError, match=r"'claude-mythos-5'.*not zero.*prices="):
        known_price("claude-mythos-5")
    assert known_price("claude-haiku-4-5") is HAIKU


@pytest.mark.parametrize("rate", ["x", -1, "0.0000001", float("nan"), float("inf"), None])
def test_rates_are_amounts(rate: Any) -> None:
    """A rate is a number of dollars per million tokens, to six decimals."""
    with pytest.raises(UsageError, match="rate"):
        Rates(rate, 1, 1, 1, 1)


@pytest.mark.parametrize("above", [[], [5], [0, 10, 5], [0, 0]])
def test_steps_rise(above: list[int]) -> None:
    """A price's steps begin at nothing and rise."""
    rates = Rates(1, 1, 1, 1, 1)
    with pytest.raises(UsageError, match="steps"):
        Price(steps=[PriceStep(above=size, batch=rates, standard=rates) for size in above])


@pytest.mark.parametrize("model", list(PRICES))
def test_prices_are_values(model: str) -> None:
    """A document brings the same price back, to the last pico-dollar."""
    assert Price.load(json.loads(json.dumps(PRICES[model].document()))) == PRICES[model]


def test_dollars() -> None:
    """Nano-dollars show as exact dollars and come back."""
    assert usd(1) == Decimal("0.000000001")
    assert usd(400 * NANO) == 400
    assert from_usd("0.1") == from_usd(0.1) == NANO // 10
    assert from_usd(usd(123_456_789_012)) == 123_456_789_012


def test_a_budget() -> None:
    """A budget is a positive amount with shares to warn at."""
    assert Budget(400).nano == 400 * NANO
    assert Budget(usd="0.05", warn_at=[0.9, 0.5]) == Budget("0.05", warn_at=(0.5, 0.9))
    assert Budget(1).warn_at == (0.5, 0.8)


@pytest.mark.parametrize("amount", [0, -1, "x", float("nan"), float("inf"), True, None])
def test_a_budget_is_an_amount(amount: Any) -> None:
    """Nothing, less, and what is no number are no budget."""
    with pytest.raises(UsageError):
        Budget(amount)


@pytest.mark.parametrize("shares", [[0], [1], [-0.1], [0.5, 1.5]])
def test_warnings_are_shares(shares: list[float]) -> None:
    """Warnings come between nothing and all."""
    with pytest.raises(UsageError, match="warn_at"):
        Budget(1, warn_at=shares)
