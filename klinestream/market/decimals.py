"""Decimal numbers as exact integers of 1e-8, one by one and in columns.

The exchange sends prices and volumes as strings with eight decimals. They never become floats on the way to a sum:
`parse` and `show` are exact, and `columns` does a whole batch at once. Where a venue sends JSON's numbers, `nearest` takes their text.
"""

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from klinestream.market.errors import RecordError

PLACES = 8
UNIT: int = 10**PLACES
PRICE_MOST = 2**63 - 1
# Whole units have up to 15 digits: a sum of a day's seconds of such volumes still fits an int64.
WHOLE_DIGITS = 15
_TEXT_MOST = 40  # characters: no venue writes a number longer, and the work on it stays small
_STEP = Decimal(1).scaleb(-PLACES)
# Rounding is done once, on a number that is held whole: 40 characters have fewer digits than this.
_WHOLE = Context(prec=64, rounding=ROUND_HALF_EVEN)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII).fullmatch  # as JSON has it
_DECIMAL = re.compile(rf"(\d{{1,{WHOLE_DIGITS}}})(?:\.(\d{{1,{PLACES}}}))?", re.ASCII)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def parse(text: Any) -> int:
    """A decimal string as an integer of 1e-8; raises RecordError.

    >>> parse("25.3519")
    2535190000
    """
    found = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise RecordError(f"expected a decimal string such as 25.35190000, got {str(text)[:40]!r}")
    return int(found[1]) * UNIT + int((found[2] or "").ljust(PLACES, "0"))


def nearest(text: str) -> int:
    """A number of JSON's, as it was written, as the nearest integer of 1e-8, half to even; raises RecordError.

    Exact wherever eight decimals are enough: the text never becomes a float. Of what is below 0, or has more than fifteen digits
    before the point, it makes nothing.

    >>> nearest("122.1"), nearest("1.2e-7"), nearest("5E3"), nearest("0.000000005"), nearest("0.0000000050001")
    (12210000000, 12, 500000000000, 0, 1)
    """
    try:
        if len(text) > _TEXT_MOST or not _NUMBER(text):
            raise ValueError
        value = int(Decimal(text).quantize(_STEP, context=_WHOLE).scaleb(PLACES, context=_WHOLE))
        if not 0 <= value < UNIT * 10**WHOLE_DIGITS:
            raise ValueError
    except (ValueError, ArithmeticError):
        raise RecordError(f"expected a number from 0 below 1e{WHOLE_DIGITS} such as 25.3519, got {text[:_TEXT_MOST]!r}") from None
    return value


def show(value: int) -> str:
    """An integer of 1e-8 as the exchange writes it.

    >>> show(2535190000)
    '25.35190000'
    """
    whole, remainder = divmod(value, UNIT)
    return f"{whole}.{remainder:08d}"


def columns(texts: Sequence[str], width: int) -> tuple[Ints, Ints]:
    """Canonical decimal strings, column after column, as whole units and remainders of 1e-8, each (width, rows).

    Canonical means one to fifteen digits, a point and exactly eight digits, as `show` writes them. Raises ValueError if
    any string is something else; the caller then goes line by line with `parse`.
    """
    text = ",".join(texts).encode("ascii") + b","
    data = np.frombuffer(text, np.uint8)
    points, commas = np.flatnonzero(data == ord(".")), np.flatnonzero(data == ord(","))
    digits = np.count_nonzero((data - np.uint8(ord("0"))) < 10)
    if len(points) != len(texts) or len(commas) != len(texts) or digits + 2 * len(texts) != len(data):
        raise ValueError("not canonical decimals")
    whole_digits = points - np.concatenate([[-1], commas[:-1]]) - 1
    if np.any(commas - points != PLACES + 1) or np.any(whole_digits < 1) or np.any(whole_digits > WHOLE_DIGITS):
        raise ValueError("not canonical decimals")
    numbers = np.fromstring(text.replace(b".", b",").decode(), np.int64, sep=",").reshape(width, -1, 2)
    return numbers[:, :, 0], numbers[:, :, 1]


def ratio(whole: Ints, remainder: Ints, divisor: Ints | int = 1) -> Floats:
    """Exact sums (whole units and 1e-8 remainders) divided once, as floats."""
    return (whole * float(UNIT) + remainder) / (np.asarray(divisor) * float(UNIT))
