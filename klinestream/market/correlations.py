"""Which symbols move together: correlations of returns over a window of candles, and the graph of them. Pure.

    closes, symbols × moments, with holes ─► log returns ─► correlations, pair by pair ─► edges ─► groups
                                                                  └─► places in a plane

Laws, each a property test in `tests/property/test_correlation_laws.py`:

- **A pair is its own.** Its value is the same alone and among a thousand others, to the last bit; so is a table made in parts.
- **Order doesn't matter.** Symbols in another order give the same graph.
- **Unknown is null**, in arrays nan, never zero: pairs with too few common returns, and series that stand still.

Sums over the window are exact. Each series' returns become integers of 41 bits, which loses less than 1e-12 of its greatest return, since a
correlation doesn't depend on a series' scale; an integer is two halves of 21 bits, whose products add up to less than 2^53, so that
float64 multiplies matrices of them without any rounding, in whatever order the processor sums up (after Ozaki, Ogita, Oishi and Rump,
"Error-free transformations of matrix multiplication by using fast routines of matrix multiplication", Numerical Algorithms 59, 2012).

Correlations as the distances of a graph of securities: Mantegna, "Hierarchical structure in financial markets", European Physical
Journal B 11, 1999.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klinestream.market.correlation_groups import groups_of
from klinestream.market.correlation_layout import layout_of
from klinestream.market.errors import ConfigError

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CANDLES_LEAST = 31
CANDLES_MOST = 1000
"""Products of halves, up to 2^43, add up to less than 2^53 for up to 1,024 returns."""
COMMON_LEAST = 30
"""Returns that a pair must have in common: with fewer a correlation of 0.36 is chance one time in twenty."""
SYMBOLS_MOST = 2000
"""A table of all pairs takes 10 bytes a pair."""
LEAST_DEFAULT, MOST_DEFAULT, MOST_MOST = 0.6, 5, 50

_BITS = 41
_HALF = 2.0**21
_ROWS_AT_ONCE = 256
# A steady growth has returns that differ by the rounding of its logarithms; that is no movement.
_FLAT = 2.0**12
_WHOLE = 1 - 2.0**-40


@dataclass(frozen=True, slots=True)
class Pairs:
    """Correlations and numbers of common returns, symbols × symbols; and each symbol's volatility: its returns' standard deviation."""

    r: Floats
    observations: npt.NDArray[np.int16]
    volatility: Floats


@dataclass(frozen=True, slots=True)
class Edges:
    """The edges of a graph, strongest first, between places `a` < `b` of its symbols."""

    a: Numbers
    b: Numbers
    r: Floats
    observations: Numbers

    @property
    def z(self) -> Floats:
        """How many standard errors each correlation is from zero, by Fisher's transformation.

        Fisher, "On the probable error of a coefficient of correlation deduced from a small sample", Metron 1, 1921. Beyond 2.58 one in a
        hundred pairs of unrelated series is. A correlation of 1 counts as a little less.
        """
        found: Floats = np.arctanh(np.clip(self.r, -_WHOLE, _WHOLE)) * np.sqrt(self.observations - 3.0)
        return found


@dataclass(frozen=True, slots=True)
class Graph:
    """The graph of a window. Places are those of `symbols`, which stand in order of name; nan and None where something isn't known."""

    symbols: Sequence[str]
    candles: Numbers
    """How many candles of the window each symbol has."""
    returns: Numbers
    volatility: Floats
    """Standard deviation of a candle's log return."""
    degree: Numbers
    group: Sequence[str | None]
    """The symbol at the heart of the group; None where nothing moves with the symbol."""
    x: Floats
    y: Floats
    edges: Edges


@dataclass(frozen=True, slots=True)
class Rule:
    """Which pairs are edges: at least so strong, and among the `most` strongest of one of their ends."""

    least: float = LEAST_DEFAULT
    most: int = MOST_DEFAULT

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not 0 <= self.least <= 1:
            raise ConfigError(f"expected a correlation from 0 to 1 as the least of an edge, got {self.least}")
        if not 1 <= self.most <= MOST_MOST:
            raise ConfigError(f"expected from 1 to {MOST_MOST} edges a symbol, got {self.most}")


def graph(symbols: Sequence[str], closes: Floats, rule: Rule) -> Graph:
    """The graph of closes, symbols × moments, nan where there is none. Raises ConfigError where there are too many symbols or moments.

    >>> walk = np.cumsum(np.random.default_rng(1).normal(0, 0.01, (2, 60)), axis=1)
    >>> found = graph(["B", "A", "C"], np.exp([walk[0], walk[0] * 2, walk[1]]), Rule(least=0.9))
    >>> found.symbols, found.edges.a.tolist(), found.edges.b.tolist(), found.edges.r.round(9).tolist(), found.group
    (['A', 'B', 'C'], [0], [1], [1.0], ['A', 'A', None])
    """
    if len(symbols) > SYMBOLS_MOST or closes.shape[1] > CANDLES_MOST:
        raise ConfigError(
            f"expected at most {SYMBOLS_MOST:,} symbols and {CANDLES_MOST:,} candles, "
            f"got {len(symbols):,} and {closes.shape[1]:,}: choose fewer"
        )
    # By name: what follows must not depend on the order in which symbols came.
    order = sorted(range(len(symbols)), key=lambda place: symbols[place])
    names = [symbols[place] for place in order]
    closes = closes[order]
    returns = log_returns(closes)
    pairs = correlated(returns)
    edges = strongest(pairs, rule)
    x, y = layout_of(names, pairs.r)
    return Graph(
        names,
        np.isfinite(closes).sum(axis=1),
        np.isfinite(returns).sum(axis=1),
        pairs.volatility,
        np.bincount(np.concatenate([edges.a, edges.b]), minlength=len(names)),
        groups_of(names, edges.a, edges.b, edges.r),
        x,
        y,
        edges,
    )


def log_returns(closes: Floats) -> Floats:
    """ln(close / close before), one fewer than moments; nan next to a hole. A price that isn't above zero is a hole.

    >>> log_returns(np.array([[1.0, 1.0, np.nan, 2.0, 4.0]])).round(4).tolist()
    [[0.0, nan, nan, 0.6931]]
    """
    logs = np.log(np.where(closes > 0, closes, np.nan))
    found: Floats = logs[:, 1:] - logs[:, :-1]
    return found


def correlated(returns: Floats, common_least: int = COMMON_LEAST) -> Pairs:
    """Pearson's correlation of each pair over what both have: nan with fewer than `common_least` returns, or where one stands still."""
    digits = _digits(returns)
    count = len(returns)
    r, observations = np.empty((count, count)), np.empty((count, count), np.int16)
    for begin in range(0, count, _ROWS_AT_ONCE):
        rows, others = slice(begin, begin + _ROWS_AT_ONCE), slice(begin, count)
        r[rows, others], observations[rows, others] = _block(digits.of(rows), digits.of(others), common_least)
        r[others, rows], observations[others, rows] = r[rows, others].T, observations[rows, others].T
    return Pairs(r, observations, _volatility(digits, returns))


def strongest(pairs: Pairs, rule: Rule) -> Edges:
    """The pairs that a rule makes edges; of equally strong ones those that come first by name."""
    count = len(pairs.r)
    chosen = np.zeros((count, count), bool)
    for begin in range(0, count, _ROWS_AT_ONCE):
        rows = np.arange(begin, min(begin + _ROWS_AT_ONCE, count))
        strength = np.nan_to_num(np.abs(pairs.r[rows]), nan=-1.0)
        strength[np.arange(len(rows)), rows] = -1.0
        chosen[rows] = _first_of_each(strength, rule.most) & (strength >= rule.least)
    a, b = np.nonzero(np.triu(chosen | chosen.T, 1))
    r = pairs.r[a, b]
    order = np.lexsort((b, a, -np.abs(r)))
    a, b = a[order], b[order]
    return Edges(a, b, r[order], pairs.observations[a, b].astype(np.int64))


def _first_of_each(strength: Floats, most: int) -> Flags:
    """The `most` greatest of each row; of equal ones the first."""
    if strength.shape[1] <= most:
        return np.ones(strength.shape, bool)
    bound = np.partition(strength, -most, axis=1)[:, [-most]]
    above, tied = strength > bound, strength == bound
    room = most - above.sum(axis=1, keepdims=True)
    found: Flags = above | (tied & (tied.cumsum(axis=1) <= room))
    return found


@dataclass(frozen=True, slots=True)
class _Digits:
    """Returns as integers less their mean, high half and low half, in float64; 0 where `there` is 0. `unit` is what 1 stands for."""

    high: Floats
    low: Floats
    there: Floats
    unit: Floats

    @property
    def whole(self) -> Floats:
        return self.high * _HALF + self.low

    @property
    def squares(self) -> tuple[Floats, Floats, Floats]:
        """As products of halves."""
        return self.high * self.high, 2 * self.high * self.low, self.low * self.low

    def of(self, rows: slice) -> "_Digits":
        return _Digits(self.high[rows], self.low[rows], self.there[rows], self.unit[rows])


def _digits(returns: Floats) -> _Digits:
    there = np.isfinite(returns)
    greatest = np.abs(np.where(there, returns, 0.0)).max(axis=1, initial=0.0)
    exponents = np.frexp(greatest)[1]
    numbers = np.rint(np.ldexp(np.where(there, returns, 0.0), (_BITS - exponents)[:, None])).astype(np.int64)
    # Near their mean the sums below don't cancel; any other integer would do as well.
    means = numbers.sum(axis=1) // np.maximum(there.sum(axis=1), 1)
    numbers = np.where(there, numbers - means[:, None], 0)
    high = numbers >> 21
    return _Digits(high.astype(float), (numbers - (high << 21)).astype(float), there.astype(float), np.ldexp(1.0, exponents - _BITS))


def _block(a: _Digits, b: _Digits, common_least: int) -> tuple[Floats, npt.NDArray[np.int16]]:
    """Each of some series with each of others: with n common returns x and y, (n Σxy - Σx Σy) / √((n Σx² - (Σx)²) (n Σy² - (Σy)²))."""
    n = a.there @ b.there.T
    sums, sums_of_b = a.whole @ b.there.T, a.there @ b.whole.T
    products = _together(a.high @ b.high.T, a.high @ b.low.T + a.low @ b.high.T, a.low @ b.low.T)
    spread = n * _together(*(part @ b.there.T for part in a.squares)) - sums * sums
    spread_of_b = n * _together(*(a.there @ part.T for part in b.squares)) - sums_of_b * sums_of_b
    bound = (n * _FLAT) ** 2
    moves = (n >= common_least) & (spread > bound) & (spread_of_b > bound)
    # One for what isn't known, so that nothing is divided by zero.
    r = (n * products - sums * sums_of_b) / np.sqrt(np.where(moves, spread * spread_of_b, 1.0))
    return np.where(moves, np.clip(r, -1.0, 1.0), np.nan), n.astype(np.int16)


def _together(high: Floats, middle: Floats, low: Floats) -> Floats:
    """Sums of products of halves as sums of products; always in this order, so that the same parts give the same bits."""
    return (high * _HALF + middle) * _HALF + low


def _volatility(digits: _Digits, returns: Floats) -> Floats:
    """The sample's standard deviation of each series; nan with fewer than two returns."""
    n = np.isfinite(returns).sum(axis=1).astype(float)
    sums = digits.whole.sum(axis=1)
    squares = _together(*(part.sum(axis=1) for part in digits.squares))
    spread = np.maximum(n * squares - sums * sums, 0.0)
    known = n > 1
    return np.where(known, np.sqrt(spread / np.where(known, n * (n - 1), 1.0)) * digits.unit, np.nan)
