"""Decimal numbers as exact integers of 1e-8, one by one and in columns.

The exchange sends prices and volumes as strings with eight decimals. They never become floats on the way to a sum:
`parse` and `show` are exact, and `columns` does a whole batch at once.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from klinestream.market.errors import RecordError

PLACES = 8
UNIT: int = 10**PLACES
PRICE_MOST = 2**63 - 1
# Whole units have up to 15 digits: a sum of a day's seconds of such volumes still fits an int64.
WHOLE_DIGITS = 15
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
