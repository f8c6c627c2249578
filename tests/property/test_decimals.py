"""Numbers as venues write them become integers of 1e-8 without a float in between."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.decimals import UNIT, nearest, show
from klinestream.market.errors import RecordError

AMOUNTS = st.integers(0, 10**15 * UNIT - 1)


@given(AMOUNTS)
def test_eight_decimals_are_kept(amount: int) -> None:
    """Whatever the size; a float holds no more than some fifteen digits of these."""
    assert nearest(show(amount)) == amount
    assert nearest(show(amount).rstrip("0") + "0") == amount
    assert nearest(f"{amount}e-8") == amount


@given(st.floats(0, 1e14))
def test_a_float_as_json_writes_it_is_taken_as_it_is_written(number: float) -> None:
    """The shortest text that means the float is what the sender said: off by half a step at most."""
    text = json.dumps(number)
    assert abs(Fraction(nearest(text), UNIT) - Fraction(text)) <= Fraction(1, 2 * UNIT)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0.30000000000000004", 30_000_000), ("0.000000015", 2), ("0.000000025", 2), ("0.0000000250001", 3), ("1e-99", 0), ("-0.0", 0)],
)
def test_what_lies_between_two_steps_goes_to_the_nearer_one(text: str, amount: int) -> None:
    """And right between them to the even one."""
    assert nearest(text) == amount


@pytest.mark.parametrize(
    "text", ["-1", "-1e-8", "1e15", "999999999999999.999999995", "1e999999999", "1e-9999999999999999999999", "NaN", "Infinity"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    """Below 0, too great, no number: also where the rounding would make it too great."""
    with pytest.raises(RecordError, match="expected a number from 0 below 1e15"):
        nearest(text)


@pytest.mark.parametrize("text", ["", " 1", "1_000", "٣", "01", "1.", ".5", "+1", "0x1", "1" * 41])
def test_what_json_would_not_write_is_refused(text: str) -> None:
    """What `Decimal` takes beside it, and what is longer than any venue writes."""
    with pytest.raises(RecordError, match="expected a number"):
        nearest(text)
