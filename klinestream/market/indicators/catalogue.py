"""Which indicators are computed, and all of them over one joint state."""

from dataclasses import astuple, dataclass, replace
from functools import cached_property
from itertools import accumulate, chain

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.errors import ConfigError
from klinestream.market.indicators.atr import Atr
from klinestream.market.indicators.bollinger import Bollinger
from klinestream.market.indicators.ema import Ema
from klinestream.market.indicators.macd import Macd
from klinestream.market.indicators.obv import Obv
from klinestream.market.indicators.protocol import Bools, Candles, Indicator
from klinestream.market.indicators.rsi import RsiOfCloses
from klinestream.market.indicators.sma import Sma
from klinestream.market.indicators.stochastic import Stochastic
from klinestream.market.indicators.volatility import Volatility
from klinestream.market.indicators.vwap import SessionVwap, Vwap

PERIOD_MOST = 1000
"""Bounds the state: a window of 1,000 candles takes 80 MB for 1,400 symbols and 7 intervals."""

DEFINITIONS = 1
"""Changes with any formula or state layout, so that nothing goes on from a state that another version made."""


@dataclass(frozen=True)
class IndicatorSettings:
    """Periods of each indicator, in candles; none at all leaves it out. Raises ConfigError where one can't be.

    MACD: fast, slow, signal. Bollinger: period, deviations. Stochastic: period, slow %K, slow %D.
    """

    sma: tuple[int, ...] = (20, 50)
    ema: tuple[int, ...] = (12, 26)
    rsi: tuple[int, ...] = (14,)
    macd: tuple[tuple[int, int, int], ...] = ((12, 26, 9),)
    bollinger: tuple[tuple[int, float], ...] = ((20, 2.0),)
    atr: tuple[int, ...] = (14,)
    vwap: tuple[int, ...] = (20,)
    stochastic: tuple[tuple[int, int, int], ...] = ((14, 3, 3),)
    volatility: tuple[int, ...] = (20,)
    session_vwap: bool = True
    obv: bool = True

    def __post_init__(self) -> None:
        for name in ("sma", "ema", "rsi", "atr", "vwap", "volatility"):
            for period in getattr(self, name):
                _require_periods(name, period)
        for periods in self.macd:
            _require_periods("macd", *periods)
            if periods[0] >= periods[1]:
                raise ConfigError(f"macd: expected a fast period below the slow one, got {periods[0]} and {periods[1]}: swap them")
        for period, deviations in self.bollinger:
            _require_periods("bollinger", period)
            if not 0.1 <= deviations <= 100:
                raise ConfigError(f"bollinger: expected deviations from 0.1 to 100, got {deviations}: 2 is the usual choice")
        for period, slow_k, slow_d in self.stochastic:
            _require_periods("stochastic", period)
            # A smoothing of 1 is none: the fast oscillator.
            _require_periods("stochastic", slow_k, slow_d, least=1)


def _require_periods(name: str, *periods: int, least: int = 2) -> None:
    for period in periods:
        if not least <= period <= PERIOD_MOST:
            raise ConfigError(f"{name}: expected periods from {least} to {PERIOD_MOST} candles, got {period}: change it, or leave it out")


def catalogue(settings: IndicatorSettings) -> tuple[Indicator, ...]:
    """The indicators of the settings, in a fixed order. Raises ConfigError if two of them are the same."""
    chosen: tuple[Indicator, ...] = (
        *map(Sma, settings.sma),
        *map(Ema, settings.ema),
        *map(RsiOfCloses, settings.rsi),
        *(Macd(*periods) for periods in settings.macd),
        *(Bollinger(*one) for one in settings.bollinger),
        *map(Atr, settings.atr),
        *map(Vwap, settings.vwap),
        *([SessionVwap()] if settings.session_vwap else []),
        *([Obv()] if settings.obv else []),
        *(Stochastic(*periods) for periods in settings.stochastic),
        *map(Volatility, settings.volatility),
    )
    names = list(chain.from_iterable(indicator.names for indicator in chosen))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"expected each indicator once, got {', '.join(twice)} more than once: leave one of them out")
    return chosen


class IndicatorSet:
    """All indicators of the settings, as one: each has a block of rows of a joint state (rows, columns)."""

    def __init__(self, settings: IndicatorSettings) -> None:
        self.settings = settings
        self.indicators = catalogue(settings)
        heights = [len(indicator.init(0)) for indicator in self.indicators]
        ends = list(accumulate(heights))
        self.rows = sum(heights)
        self.blocks = tuple(slice(end - height, end) for height, end in zip(heights, ends, strict=True))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All values, in the order that `update` gives them."""
        return tuple(chain.from_iterable(indicator.names for indicator in self.indicators))

    @cached_property
    def ready_after(self) -> int:
        """After how many candles of a run every value has converged, whatever their interval."""
        return max((indicator.ready_after for indicator in self.indicators), default=0)

    def ready_after_of(self, interval_ms: int) -> int:
        """The same for candles of one interval: the session's VWAP needs a day of them, the others a number."""
        sized = (replace(each, shortest_ms=interval_ms) if isinstance(each, SessionVwap) else each for each in self.indicators)
        return max((each.ready_after for each in sized), default=0)

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """What values and state depend on; of plain tuples and numbers."""
        return DEFINITIONS, *astuple(self.settings)

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet, (rows, columns)."""
        return np.concatenate([np.zeros((0, columns)), *(indicator.init(columns) for indicator in self.indicators)])

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place; returns values and readiness, each (names, n)."""
        found = [indicator.update(state[block], columns, candles) for indicator, block in zip(self.indicators, self.blocks, strict=True)]
        if not found:
            return np.zeros((0, len(columns))), np.zeros((0, len(columns)), np.bool_)
        return np.concatenate([values for values, _ in found]), np.concatenate([ready for _, ready in found])
