"""Arrow's decimals of eight places as whole units and remainders of 1e-8, and back: exact, a column at once.

Each value stands in 128 bits, as an integer of 1e-8. 2^64 of them are 184,467,440,737 units and 9,551,616: so both halves
are divided on their own.
"""

import numpy as np
import pyarrow as pa

from klinestream.market.decimals import UNIT, WHOLE_DIGITS, Ints
from klinestream.market.trade_seconds import Amounts

_HIGH_UNITS, _HIGH_REST = divmod(1 << 64, UNIT)
_HIGH_MOST = 10**WHOLE_DIGITS * UNIT >> 64


def amounts(column: pa.Array) -> Amounts:
    """Values from 0, of up to 15 digits before the point. Raises ValueError for others."""
    low, high = _halves(column)
    whole, rest = (half.astype(np.int64) for half in np.divmod(low, np.uint64(UNIT)))
    if high.any():
        outside = high.min() < 0 or high.max() > _HIGH_MOST
        rest += high * _HIGH_REST
        whole += high * _HIGH_UNITS + rest // UNIT
        rest %= UNIT
        if outside or whole.max() >= 10**WHOLE_DIGITS:
            raise ValueError(f"expected numbers from 0, of at most {WHOLE_DIGITS} digits before the point")
    return np.stack([whole, rest])


def prices(column: pa.Array) -> Ints:
    """As integers of 1e-8. Raises ValueError where one is 0 or less, or doesn't fit."""
    low, high = _halves(column)
    found: Ints = low.view(np.int64)
    if high.any() or (len(found) and found.min() <= 0):
        raise ValueError("expected prices above 0 and below 2**63 of 1e-8")
    return found


def decimals(values: Amounts, arrow: pa.DataType) -> pa.Array:
    """The column again."""
    whole, rest = values
    high, low = (whole >> 32) * UNIT, (whole & 0xFFFFFFFF) * UNIT + rest
    halves = np.empty((len(whole), 2), np.int64)
    halves[:, 0] = whole * UNIT + rest  # modulo 2^64, as it should be
    halves[:, 1] = (high + (low >> 32)) >> 32
    return pa.Array.from_buffers(arrow, len(whole), [None, pa.py_buffer(halves)])


def price_decimals(values: Ints, arrow: pa.DataType) -> pa.Array:
    """Prices as a column."""
    return decimals(np.stack(np.divmod(values, UNIT)), arrow)


def _halves(column: pa.Array) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint64]], Ints]:
    if not len(column):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)  # it may have no buffer
    both = np.frombuffer(column.buffers()[1], np.int64).reshape(-1, 2)[column.offset : column.offset + len(column)]
    return np.ascontiguousarray(both[:, 0]).view(np.uint64), np.ascontiguousarray(both[:, 1])
