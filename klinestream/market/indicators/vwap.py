"""Volume-weighted average price: quote volume over base volume of the last candles, or of the day.

Source: Berkowitz, Logue and Noser, The Total Cost of Transactions on the NYSE (Journal of Finance 43, 1988). Quote volume
is the sum of price × quantity over all trades, so this is the true average price paid, not one estimated from typical
prices. Sums are exact, and divided once. Where nothing was traded there is no such price: the value is nan and not ready.
TA-Lib has none.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators import volumes
from klinestream.market.indicators.protocol import Bools, Candles

DAY_MS = 86_400_000
MINUTE_MS = 60_000

_SUMS = 4  # rows: of base and quote volume the coarse parts, then the fine ones


def _volumes(candles: Candles) -> Floats:
    """Base and quote volume in parts that add up exactly, (2 parts, base and quote, n)."""
    return volumes.split(np.stack([candles.base, candles.quote], axis=1))


def _price(sums: Floats) -> Floats:
    base, quote = volumes.rounded(sums)
    unknown = np.full(base.shape, np.nan)
    return np.divide(quote, base, where=base > 0, out=unknown)


@dataclass(frozen=True, slots=True)
class Vwap:
    """VWAP of the last `period` candles. State: how many candles, the sums, then a ring of what was added to each.

    The sums go on from candle to candle: they are exact, so each is what a sum over the window would be.
    """

    period: int

    @property
    def names(self) -> tuple[str, ...]:
        """`vwap_20`."""
        return (f"vwap_{self.period}",)

    @property
    def ready_after(self) -> int:
        """When the window is full."""
        return self.period

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        return np.zeros((1 + _SUMS + _SUMS * self.period, columns))

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        taken = state[0, columns].astype(np.int64)
        state[0, columns] = taken + 1
        added = _volumes(candles)
        sums = volumes.carried(state[1 : 1 + _SUMS, columns].reshape(added.shape) + added - self._replaced(state, columns, taken, added))
        state[1 : 1 + _SUMS, columns] = sums.reshape(_SUMS, -1)
        full = taken + 1 >= self.period
        price = np.where(full, _price(sums), np.nan)
        return price[None], (full & ~np.isnan(price))[None]

    def _replaced(self, state: Floats, columns: Ints, taken: Ints, added: Floats) -> Floats:
        """What leaves the window: zeros until it is full."""
        first = 1 + _SUMS + taken % self.period * _SUMS
        places = first + np.arange(_SUMS)[:, None]
        oldest = state[places, columns]
        state[places, columns] = added.reshape(_SUMS, -1)
        return oldest.reshape(added.shape)


@dataclass(frozen=True, slots=True)
class SessionVwap:
    """VWAP since 00:00 UTC of the day in which the candle opened. State: the day, whether it is whole, the sums.

    A run that begins within a day gives the VWAP since then, and is not ready until midnight has passed; one that begins
    at midnight is ready at once. `shortest_ms`: the length of the shortest candles it gets.
    """

    shortest_ms: int = MINUTE_MS

    @property
    def names(self) -> tuple[str, ...]:
        """`vwap_session`."""
        return ("vwap_session",)

    @property
    def ready_after(self) -> int:
        """A day's candles.

        >>> SessionVwap().ready_after
        1440
        """
        return -(-DAY_MS // self.shortest_ms)

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        state = np.zeros((2 + _SUMS, columns))
        state[0] = -1
        return state

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        day, whole, *sums = state[:, columns]
        today, since_midnight_ms = np.divmod(candles.open_times, DAY_MS)
        added = _volumes(candles)
        begins = today != day
        whole = np.where(begins, since_midnight_ms == 0, whole)
        before = np.where(begins, 0.0, np.array(sums).reshape(added.shape))
        now = volumes.carried(before + added)
        state[0, columns], state[1, columns], state[2:, columns] = today, whole, now.reshape(_SUMS, -1)
        price = _price(now)
        return price[None], ((whole > 0) & ~np.isnan(price))[None]
