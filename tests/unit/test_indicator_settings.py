"""Which indicators there are, what they are called, and which settings are refused."""

import pickle
from itertools import pairwise

import numpy as np
import pytest

from klinestream.market.errors import ConfigError
from klinestream.market.indicators.catalogue import PERIOD_MOST, IndicatorSet, IndicatorSettings, catalogue
from klinestream.market.indicators.vwap import DAY_MS, MINUTE_MS

NONE = IndicatorSettings((), (), (), (), (), (), (), (), (), session_vwap=False, obv=False)


def test_the_default_set() -> None:
    """The default set has these values, in this order."""
    assert IndicatorSet(IndicatorSettings()).names == (
        "sma_20",
        "sma_50",
        "ema_12",
        "ema_26",
        "rsi_14",
        "macd_12_26_9",
        "macd_signal_12_26_9",
        "macd_histogram_12_26_9",
        "bollinger_upper_20_2",
        "bollinger_middle_20_2",
        "bollinger_lower_20_2",
        "atr_14",
        "vwap_20",
        "vwap_session",
        "obv",
        "stochastic_k_14_3_3",
        "stochastic_d_14_3_3",
        "volatility_20",
    )


def test_a_set_says_how_many_candles_it_needs() -> None:
    """A day of candles where the session's VWAP needs more than the slowest other one, which is the MACD's signal."""
    default = IndicatorSet(IndicatorSettings())
    assert default.ready_after == default.ready_after_of(MINUTE_MS) == 1440
    assert default.ready_after_of(5 * MINUTE_MS) == 288
    assert default.ready_after_of(60 * MINUTE_MS) == default.ready_after_of(DAY_MS) == 203
    assert IndicatorSet(IndicatorSettings(session_vwap=False)).ready_after == 203


def test_state_has_a_row_block_for_each() -> None:
    """The joint state is as high as the indicators' own together, whatever the columns."""
    default = IndicatorSet(IndicatorSettings())
    assert default.init(7).shape == (default.rows, 7)
    assert default.rows == sum(len(indicator.init(0)) for indicator in default.indicators)
    assert default.init(0).shape == (default.rows, 0)


def test_no_indicators_at_all() -> None:
    """A set without indicators has no values, needs no candles and no state."""
    empty = IndicatorSet(NONE)
    assert (empty.names, empty.rows, empty.ready_after, empty.ready_after_of(MINUTE_MS)) == ((), 0, 0, 0)
    assert empty.init(3).shape == (0, 3)


def test_fingerprints_tell_settings_apart() -> None:
    """Sets with the same settings have the same fingerprint; another period, order or flag has another one."""
    chosen = [
        IndicatorSettings(),
        IndicatorSettings(sma=(50, 20)),
        IndicatorSettings(ema=(12, 27)),
        IndicatorSettings(bollinger=((20, 2.5),)),
        IndicatorSettings(obv=False),
        IndicatorSettings(session_vwap=False),
    ]
    prints = [IndicatorSet(each).fingerprint for each in chosen]
    assert len(set(prints)) == len(chosen)
    assert IndicatorSet(IndicatorSettings()).fingerprint == prints[0]
    assert pickle.loads(pickle.dumps(prints[0])) == prints[0]  # noqa: S301  # our own bytes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sma": (20, 1)}, "sma: expected periods from 2 to 1000 candles, got 1"),
        ({"ema": (0,)}, "ema: expected periods"),
        ({"rsi": (-14,)}, "rsi: expected periods"),
        ({"atr": (PERIOD_MOST + 1,)}, "atr: expected periods"),
        ({"vwap": (1,)}, "vwap: expected periods"),
        ({"volatility": (1,)}, "volatility: expected periods"),
        ({"macd": ((12, 26, 1),)}, "macd: expected periods"),
        ({"macd": ((26, 12, 9),)}, "macd: expected a fast period below the slow one, got 26 and 12"),
        ({"bollinger": ((20, 0.0),)}, "bollinger: expected deviations"),
        ({"bollinger": ((20, float("nan")),)}, "bollinger: expected deviations"),
        ({"bollinger": ((1, 2.0),)}, "bollinger: expected periods"),
        ({"stochastic": ((14, 0, 3),)}, "stochastic: expected periods"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, tuple[object, ...]], message: str) -> None:
    """A period or number that can't be used is an error that names indicator and value."""
    with pytest.raises(ConfigError, match=message):
        IndicatorSettings(**settings)  # type: ignore[arg-type]  # what stands in a file may be anything


def test_the_same_indicator_twice_is_refused() -> None:
    """Two indicators with the same names would be one field with two values."""
    with pytest.raises(ConfigError, match="got sma_20 more than once"):
        catalogue(IndicatorSettings(sma=(20, 50, 20)))


def test_names_are_fit_for_fields() -> None:
    """Names hold lower-case letters, digits and underscores, also where a setting has a fraction."""
    found = IndicatorSet(IndicatorSettings(bollinger=((20, 2.5), (20, 2.0))))
    assert "bollinger_upper_20_2_5" in found.names
    assert all(name.replace("_", "").isalnum() and name.islower() for name in found.names)
    assert len(set(found.names)) == len(found.names)


def test_blocks_do_not_overlap() -> None:
    """A value that one indicator writes into its rows is in no other one's rows."""
    found = IndicatorSet(IndicatorSettings())
    covered = np.zeros(found.rows, np.int64)
    for block in found.blocks:
        covered[block] += 1
    assert (covered == 1).all()
    assert all(one.stop == other.start for one, other in pairwise(found.blocks))
