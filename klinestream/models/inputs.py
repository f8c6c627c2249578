"""What models look at: numbers without a scale, from one closed candle's close and indicators. Pure.

    crypto_indicators, live  ─┐
                              ├─► model_inputs ─► sma_20 / close - 1, rsi_14 / 100 - 1/2, atr_14 / close, …
    feature rows, offline    ─┘

Live and offline call the same function, and each number depends on its own row alone, by divisions and subtractions, which every
machine rounds alike: so a model is given the same bits in both. A price in itself says nothing to a model that has to hold for
coins of a cent and coins of 100,000 dollars, next year too; hence ratios.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from klinestream.market.decimals import Floats
from klinestream.market.errors import ConfigError


def _to_close(value: Floats, close: Floats) -> Floats:
    return value / close - 1.0


def _of_close(value: Floats, close: Floats) -> Floats:
    return value / close


def _percent(value: Floats, close: Floats) -> Floats:  # noqa: ARG001  # all have one signature
    return value / 100.0 - 0.5


def _as_it_is(value: Floats, close: Floats) -> Floats:  # noqa: ARG001
    return value


_FORMS: dict[str, tuple[str, Callable[[Floats, Floats], Floats]]] = {
    "sma": ("{}_to_close", _to_close),
    "ema": ("{}_to_close", _to_close),
    "vwap": ("{}_to_close", _to_close),
    "bollinger_upper": ("{}_to_close", _to_close),
    "bollinger_lower": ("{}_to_close", _to_close),
    "macd": ("{}_of_close", _of_close),
    "macd_signal": ("{}_of_close", _of_close),
    "macd_histogram": ("{}_of_close", _of_close),
    "atr": ("{}_of_close", _of_close),
    "rsi": ("{}_centred", _percent),
    "stochastic_k": ("{}_centred", _percent),
    "stochastic_d": ("{}_centred", _percent),
    "volatility": ("{}", _as_it_is),
}
"""Family of indicators → name and form of the input. Left out: Bollinger's middle, which is an average that is there already; the
session's average price and OBV, which depend on where midnight and the run's begin lie."""


def usable(indicators: Iterable[str]) -> tuple[str, ...]:
    """Those indicators of which there is an input, in order of their names.

    >>> usable(["sma_20", "obv", "rsi_14", "vwap_session"])
    ('rsi_14', 'sma_20')
    """
    return tuple(sorted(name for name in indicators if _family(name) in _FORMS))


def input_names(indicators: Sequence[str]) -> tuple[str, ...]:
    """The inputs' names, one an indicator. Raises ConfigError for an indicator without an input.

    >>> input_names(["rsi_14", "sma_20"])
    ('rsi_14_centred', 'sma_20_to_close')
    """
    unknown = [name for name in indicators if _family(name) not in _FORMS]
    if unknown or not indicators:
        raise ConfigError(f"inputs: expected indicators of {', '.join(_FORMS)}, got {', '.join(unknown) or 'none'}")
    return tuple(_FORMS[_family(name)][0].format(name) for name in indicators)


def model_inputs(indicators: Sequence[str], close: Floats, values: Floats) -> Floats:
    """Inputs (…, indicators) of closes (…) and their indicators' values (…, indicators); nan where a value is nan."""
    found = np.empty(values.shape)
    for place, name in enumerate(indicators):
        found[..., place] = _FORMS[_family(name)][1](values[..., place], close)
    return found


def _family(name: str) -> str:
    """An indicator's name without its periods: what comes before the first number."""
    parts = name.split("_")
    numbers = [place for place, part in enumerate(parts) if part[:1].isdigit()]
    return "_".join(parts[: numbers[0]]) if numbers else name
