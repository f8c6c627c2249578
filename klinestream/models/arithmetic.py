"""The arithmetic of a forecast, of additions, multiplications and divisions in a fixed order alone. Pure.

A product of matrices by BLAS is summed in another order for another number of rows, and numpy's exp takes other paths on other
processors. A forecast of one row live has to be that of a million rows offline, so nothing here depends on how many there are.
"""

import math

import numpy as np

from klinestream.market.decimals import Floats

_LN2_HIGH = 6.93147180369123816490e-01  # 33 bits: times a whole exponent it is exact (Sun's fdlibm, e_exp.c, 1993)
_LN2_LOW = 1.90821492927058770002e-10
_TERMS = 14  # of the series for |r| <= 0.347: the first one left out is below 2**-58
_EXPONENT_MOST = 700.0


def exp(x: Floats) -> Floats:
    """e to the power of each, to about the last bit; beyond ±700 that of ±700."""
    x = np.clip(x, -_EXPONENT_MOST, _EXPONENT_MOST)
    known = np.where(np.isnan(x), 0.0, x)
    exponent = np.rint(known / math.log(2))
    rest = known - exponent * _LN2_HIGH - exponent * _LN2_LOW
    series = np.ones_like(rest)
    for term in range(_TERMS, 0, -1):
        series = series * rest / term + 1.0
    return np.where(np.isnan(x), np.nan, np.ldexp(series, exponent.astype(np.int64)))


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^-x): a probability from log odds."""
    return 1.0 / (1.0 + exp(-x))


def dense(x: Floats, weights: Floats, bias: Floats) -> Floats:
    """(…, inputs) times (inputs, outputs), plus (outputs,), summed input by input."""
    total = np.broadcast_to(bias, (*x.shape[:-1], weights.shape[1])).copy()
    for place in range(weights.shape[0]):
        total += x[..., place, None] * weights[place]
    return total
