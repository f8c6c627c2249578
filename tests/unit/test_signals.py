"""What a rule says of a series of indicator values, one symbol at a time."""

from collections.abc import Sequence

import numpy as np
import pytest

from klinestream.market.errors import ConfigError
from klinestream.market.events import Side
from klinestream.market.signals import Fired, SignalRules, SignalSettings, reason, signal_id

NAN = float("nan")
NAMES = ("sma_20", "ema_12", "ema_26", "rsi_14", "macd_12_26_9", "macd_signal_12_26_9")


def fires(settings: SignalSettings, series: dict[str, Sequence[float]], unready: Sequence[int] = ()) -> list[tuple[int, str, Side]]:
    """(candle, rule, side) of all that fires over the series, whose values are ready but where told otherwise."""
    rules = SignalRules(settings, NAMES)
    state, found = rules.init(1), []
    for candle in range(len(next(iter(series.values())))):
        values = np.full((len(NAMES), 1), 50.0)
        for name, row in series.items():
            values[NAMES.index(name), 0] = row[candle]
        ready = np.full(values.shape, candle not in unready)
        found += [(candle, one.rule, one.side) for one in rules.update(state, np.array([0]), values, ready)]
    return found


def rsi(*values: float, unready: Sequence[int] = ()) -> list[tuple[int, str]]:
    return [(candle, side.value) for candle, _, side in fires(SignalSettings(), {"rsi_14": values}, unready)]


def cross(*differences: float, unready: Sequence[int] = ()) -> list[tuple[int, str]]:
    """What fires where the fast EMA stands so far above the slow one."""
    series = {"ema_12": [50 + one for one in differences], "ema_26": [50.0] * len(differences)}
    return [(candle, side.value) for candle, _, side in fires(SignalSettings(("ema_cross",)), series, unready)]


def test_an_rsi_that_falls_below_its_limit_says_buy_and_one_that_rises_above_says_sell() -> None:
    """At the limit itself nothing fires."""
    assert rsi(50, 30, 29.9, 50, 70, 70.1) == [(2, "buy"), (5, "sell")]


def test_the_same_signal_waits_until_the_rsi_has_come_back_by_the_hysteresis() -> None:
    """Below the limit, and back by less than that, it fires no second time; back at exactly that it is armed."""
    assert rsi(50, 29, 28, 31.9, 29) == [(1, "buy")]
    assert rsi(50, 29, 32, 29) == [(1, "buy"), (3, "buy")]
    assert rsi(50, 71, 68.1, 71, 68, 71) == [(1, "sell"), (5, "sell")]


def test_a_run_that_begins_beyond_a_limit_fires_once_it_has_been_back() -> None:
    """Nobody saw it fall; one that begins between the limit and the hysteresis was seen above it."""
    assert rsi(25, 24, 31, 29, 32, 29) == [(5, "buy")]
    assert rsi(31, 29) == [(1, "buy")]
    assert rsi(75, 80, 68, 71) == [(3, "sell")]


def test_unready_values_fire_nothing_and_make_a_rule_forget() -> None:
    """Not ready or nan: the next ready value is the first of a new run."""
    assert rsi(50, 29, unready=[1]) == []
    assert rsi(50, NAN, 29, 28) == []
    assert rsi(50, 50, 29, 50, 29, unready=[1]) == [(4, "buy")]
    assert cross(-1, 1, 2, unready=[1]) == []


def test_lines_that_cross_fire_once_each_way() -> None:
    """Nothing fires while they stay in order, nor at the first ready candle."""
    assert cross(1, 2, -1, -2, 3) == [(2, "sell"), (4, "buy")]


def test_a_touch_is_no_crossing() -> None:
    """Lines that meet and part on the side they came from did not cross; those that meet and go on did, when they part."""
    assert cross(1, 0, 2, 0, 0, 1) == []
    assert cross(-1, 0, 0, 1, 0, 1) == [(3, "buy")]
    assert cross(0, 0, -1, 0, -1) == [(2, "sell")]


def test_macd_crosses_its_signal_line() -> None:
    """macd_cross looks at the two lines of the configured MACD."""
    series = {"macd_12_26_9": [-2.0, 1.0], "macd_signal_12_26_9": [-1.0, 0.5]}
    assert fires(SignalSettings(("macd_cross",)), series) == [(1, "macd_cross", Side.BUY)]


def test_what_fired_tells_value_limit_and_row() -> None:
    """The row is the place in the columns that were updated, whatever their numbers."""
    rules = SignalRules(SignalSettings(("rsi", "ema_cross")), NAMES)
    state = rules.init(10)
    columns = np.array([7, 3])
    for values in ((50.0, 50.0), (50.0, 20.0)):
        table = np.tile(np.array(values), (len(NAMES), 1))
        table[NAMES.index("ema_12")] = 51.0 if values[1] == 50.0 else 49.5
        table[NAMES.index("ema_26")] = 50.0
        fired = rules.update(state, columns, table, np.ones(table.shape, np.bool_))
    assert [(one.row, one.rule, one.side, one.value, one.limit) for one in fired] == [
        (1, "rsi", Side.BUY, 20.0, 30.0),
        (0, "ema_cross", Side.SELL, -0.5, 0.0),
        (1, "ema_cross", Side.SELL, -0.5, 0.0),
    ]
    assert not state[:, [0, 1, 2, 4, 5, 6, 8, 9]].any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (SignalSettings(rsi_period=7), "rsi, which looks at rsi_7, .* add 7 to indicators.rsi"),
        (SignalSettings(("macd_cross",), macd=(5, 8, 3)), r"macd_5_8_3 and macd_signal_5_8_3, .* add \[5, 8, 3\] to indicators.macd"),
        (SignalSettings(("ema_cross",), ema=(12, 50)), "ema_50, .* add 12 and 50 to indicators.ema, or take ema_cross out"),
        (SignalSettings(("astrology",)), "expected rsi, macd_cross or ema_cross, got 'astrology'"),
    ],
)
def test_a_rule_without_its_values_is_refused(settings: SignalSettings, said: str) -> None:
    """ConfigError says what is missing and what to do."""
    with pytest.raises(ConfigError, match=said):
        SignalRules(settings, NAMES)


def test_the_fingerprint_tells_what_the_signals_depend_on() -> None:
    """Rules that are off change nothing; a limit, a period or the order of the rules does."""
    plain = SignalSettings()
    assert plain.fingerprint == SignalSettings(ema=(1, 2)).fingerprint
    others = [SignalSettings(rsi_low=29.0), SignalSettings(hysteresis=0.0), SignalSettings(rsi_period=7)]
    orders = [SignalSettings(("rsi", "ema_cross")), SignalSettings(("ema_cross", "rsi"))]
    assert len({one.fingerprint for one in (plain, *others, *orders)}) == 6


@pytest.mark.parametrize(
    ("value", "side", "text"),
    [
        (28.4321, Side.BUY, "RSI 14 fell to 28.4, below 30"),
        (29.9999, Side.BUY, "RSI 14 fell to 29.9999, below 30"),
        (70.04, Side.SELL, "RSI 14 rose to 70.04, above 70"),
    ],
)
def test_the_reason_never_shows_a_value_that_is_not_beyond_its_limit(value: float, side: Side, text: str) -> None:
    """As many decimals as it takes."""
    assert reason(Fired(0, "rsi", side, value, 30.0 if side is Side.BUY else 70.0, "RSI 14")) == text


def test_the_id_names_what_makes_it() -> None:
    """Symbol, interval, rule, side and open time."""
    assert signal_id("币安人生USDT", "1d", "macd_cross", Side.SELL, 86_400_000) == "币安人生USDT:1d:macd_cross:sell:86400000"
