"""The normalising table of values and keys."""

from __future__ import annotations

import json
from collections import OrderedDict, namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from batchkit import normal
from batchkit.errors import KeyTypeError


class Size(str, Enum):
    SMALL = "s"


class Rank(IntEnum):
    FIRST = 1


class Scalar:
    """Stands for a numpy scalar or array: it has a dtype with a kind, and gives its Python value."""

    def __init__(self, value: object, kind: str) -> None:
        self.value = value
        self.dtype = type("dtype", (), {"kind": kind})

    def tolist(self) -> object:
        return self.value

    def astype(self, _: str) -> Scalar:
        text = [str(item) for item in self.value] if isinstance(self.value, list) else str(self.value)
        return Scalar(text, "U")

    def __float__(self) -> float:
        return float(str(self.value))

    def __str__(self) -> str:
        return str(self.value)


def _of_pandas(name: str, *bases: type) -> Any:
    return type(name, bases, {"__module__": "pandas._libs.missing"})


NA = _of_pandas("NAType")()
NAT = _of_pandas("NaTType", datetime)(2020, 1, 1)
Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (float("nan"), None),
        (Decimal("NaN"), None),
        (Decimal("sNaN"), None),
        (NA, None),
        (NAT, None),
        (Scalar("NaT", "M"), None),
        ("", ""),
        ("  a ", "  a "),
        ("a\0b", "a\0b"),
        ("\u2028\u2029\x85\ufeff\u202e", "\u2028\u2029\x85\ufeff\u202e"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (2**63, "9223372036854775808"),
        (2**53 + 1, "9007199254740993"),
        (-7, "-7"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e300, "1e+300"),
        (Decimal("1.50"), "1.50"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "2026-01-02T03:04:05+00:00"),
        (time(1, 2, 3), "01:02:03"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Size.SMALL, "s"),
        (Rank.FIRST, "1"),
        (Scalar(5, "i"), "5"),
        (Scalar(0.5, "f"), "0.5"),
        (Scalar(True, "b"), "true"),
        (Scalar([1, [2]], "i"), "[1,[2]]"),
        (Scalar(["2026-01-01", "NaT"], "M"), '["2026-01-01",null]'),
        ([], "[]"),
        ((1, "é"), '[1,"é"]'),
        (Point(1, 2), "[1,2]"),
        (
            OrderedDict(b=1, a=[None, float("nan"), Decimal("2.0"), date(2026, 1, 2)]),
            '{"a":[null,null,"2.0","2026-01-02"],"b":1}',
        ),
        (MappingProxyType({"b": True}), '{"b":true}'),
    ],
)
def test_a_value_of_the_table_becomes_its_text(value: object, expected: str | None) -> None:
    """Each kind of value has one text; what says nothing is missing."""
    assert normal.text(value) == expected


def _cycle() -> list[object]:
    cycle: list[object] = []
    cycle.append([cycle])
    return cycle


def _deep(levels: int) -> list[object]:
    deep: list[object] = []
    for _ in range(levels):
        deep = [deep]
    return deep


def _bomb() -> list[object]:
    bomb: list[object] = ["x"]
    for _ in range(50):
        bomb = [bomb, bomb]
    return bomb


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"abc", "bytes"),
        (bytearray(b"abc"), "bytearray"),
        ({1, 2}, "set"),
        (frozenset({1}), "frozenset"),
        (float("inf"), "infinity"),
        (float("-inf"), "infinity"),
        (Decimal("Infinity"), "infinity"),
        ([float("inf")], "infinity"),
        ("ab\udc80", r"lone surrogate \(U\+DC80\) at character 2"),
        (["\ud800"], "lone surrogate"),
        pytest.param(_cycle(), "holds itself", id="cycle"),
        pytest.param(_deep(100_000), "nested deeper than 100 levels", id="deep"),
        pytest.param(_bomb(), "100,000 values", id="bomb"),
        ({1: "a"}, "a dict with int keys"),
        pytest.param(10**5000, "too many digits", id="huge"),
        pytest.param([10**5000], "too many digits", id="huge in a list"),
        (timedelta(1), "timedelta"),
        (object(), "object"),
        (Scalar(1j, "c"), "Scalar"),
        (Scalar(b"x", "S"), "Scalar"),
    ],
)
def test_a_value_without_text_is_refused_by_its_type(value: object, named: str) -> None:
    """The refusal names what the value is, so that a person can find it, and quotes nothing of it."""
    with pytest.raises(normal.Unencodable, match=named):
        normal.text(value)


def test_a_container_used_twice_is_no_cycle() -> None:
    """Sharing a list between two fields of a value is not the same as a list that holds itself."""
    shared = [1]
    assert normal.text([shared, shared]) == "[[1],[1]]"


def test_nesting_up_to_the_limit_is_text() -> None:
    """A hundred levels are text that any JSON reader takes."""
    text = normal.text(_deep(normal.MAX_DEPTH - 1))
    assert text is not None
    assert json.loads(text) == _deep(normal.MAX_DEPTH - 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("A-1", "A-1"),
        ("a ", "a "),
        (" a", " a"),
        (1, "1"),
        ("1", "1"),
        (Scalar(7, "i"), "7"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("42"), "42"),
        (["shop", 1], '["shop",1]'),
        ("line\nbreak/é😀@x.example", "line\nbreak/é😀@x.example"),
        ("k" * 70, "k" * 70),
        ("", ""),
        (" \t\n\u00a0", ""),
        (None, ""),
        (float("nan"), ""),
        (Scalar("nan", "f"), ""),
        (NA, ""),
    ],
)
def test_a_key_is_text_kept_as_it_is(value: object, expected: str) -> None:
    """Keys keep case and spaces; blank and missing ones are no keys; numbers and their text are one key."""
    assert normal.key_text(value, column="sku", position=3) == expected


def test_float_keys_condemn_their_column_with_the_fix() -> None:
    """The message names the column, the first value, its row, why it happened and what to type."""
    with pytest.raises(KeyTypeError) as caught:
        normal.key_text(123.0, column="sku", position=0)
    assert str(caught.value) == (
        "column 'sku' holds floats (first: 123.0, row 0). pandas makes floats of numbers with gaps and drops leading "
        'zeros. Read it as text: pd.read_csv(..., dtype={"sku": str}).'
    )


@pytest.mark.parametrize("value", [1.0, float("inf"), Scalar(1.5, "f")])
def test_every_kind_of_float_key_is_refused(value: object) -> None:
    """A numpy float is as little a key as a Python one."""
    with pytest.raises(KeyTypeError, match="holds floats"):
        normal.key_text(value, column="sku", position=4)


@pytest.mark.parametrize("value", [True, Scalar(False, "b")])
def test_bool_keys_are_refused(value: object) -> None:
    """A column of two values cannot tell records apart."""
    with pytest.raises(KeyTypeError, match=r"column 'sku' holds booleans \(first: (True|False), row 4\)"):
        normal.key_text(value, column="sku", position=4)


@pytest.mark.parametrize("value", [b"1", {1}, "\ud800", object()])
def test_a_key_without_text_is_refused_for_its_record_only(value: object) -> None:
    """Such a key is this record's failure, told apart from a column that cannot serve as key."""
    with pytest.raises(normal.Unencodable):
        normal.key_text(value, column="sku", position=4)
