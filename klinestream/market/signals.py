"""Signals: rules over the indicators of closed candles, columns side by side.

    RSI   low + hysteresis ─ ─ ─ ─ ─ ─ ─ ─ ─╱─ ─╲─ ─ ─ ─     armed again here
          low ─ ─ ─ ─╲─ ─ ─ ─ ─ ─╱╲─ ─ ─ ─╱─ ─ ─ ─╲─ ─ ─
                      ╲buy      ╱  ╲     ╱         ╲buy      not in between: it had not come back far enough
                       ╲_______╱    ╲___╱           ╲

A rule looks at ready values only, and its memory is the unbroken row of them: an unready value makes it forget, so that
it starts as a new run does. It says what it saw happen. A run whose first ready RSI lies beyond a limit fires nothing,
since nobody saw it pass, until the RSI has come back; one whose fast line begins above the slow one likewise.

What fires depends on a column's own values in their order: not on batches, other columns, or when they came.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import Floats, Ints
from klinestream.market.errors import ConfigError
from klinestream.market.events import Side

Bools = npt.NDArray[np.bool_]

RSI, MACD_CROSS, EMA_CROSS = "rsi", "macd_cross", "ema_cross"

# What a row of the state holds; a column of zeros has seen nothing.
_UNSEEN = 0.0
_ARMED, _SPENT = 1.0, -1.0
_ABOVE, _BELOW, _LEVEL = 1.0, -1.0, 2.0

_ROUNDING = 1e-12  # of a line: what of two lines' difference their arithmetic may have made
_DECIMALS_MOST = 17  # as many tell any two floats of this size apart


@dataclass(frozen=True, slots=True)
class SignalSettings:
    """Which rules fire, and at what; as the section `signals` of the configuration."""

    rules: tuple[str, ...] = (RSI,)
    rsi_low: float = 30.0
    rsi_high: float = 70.0
    hysteresis: float = 2.0
    rsi_period: int = 14
    macd: tuple[int, int, int] = (12, 26, 9)
    ema: tuple[int, int] = (12, 26)

    @property
    def fingerprint(self) -> tuple[tuple[object, ...], ...]:
        """All that a state and its signals depend on: the rules in their order, each with what it looks at.

        >>> SignalSettings(("ema_cross",)).fingerprint
        (('ema_cross', 12, 26),)
        """
        of_rule: dict[str, tuple[object, ...]] = {
            RSI: (self.rsi_period, self.rsi_low, self.rsi_high, self.hysteresis),
            MACD_CROSS: self.macd,
            EMA_CROSS: self.ema,
        }
        return tuple((rule, *of_rule.get(rule, ())) for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Fired:
    """What a rule says of one candle. `row`: its place in the columns that were updated."""

    row: int
    rule: str
    side: Side
    value: float
    limit: float
    subject: str
    """What the rule looked at, for a person: `RSI 14`, `EMA 12 and EMA 26`."""


class SignalRules:
    """All rules that the settings name, over one state: a float array (rows, columns).

    The state is the caller's: `update` changes it in place, and setting columns to `init` makes them forget.
    """

    def __init__(self, settings: SignalSettings, names: tuple[str, ...]) -> None:
        """`names` of the indicators' values, in their order. Raises ConfigError where a rule's values are not among them."""
        self.settings = settings
        self._rules: list[_Rule] = []
        for rule in settings.rules:
            self._rules += _rules_of(rule, settings, names)

    @property
    def rows(self) -> int:
        """Height of the state."""
        return len(self._rules)

    def init(self, columns: int) -> Floats:
        """State of columns that have seen nothing, (rows, columns)."""
        return np.zeros((self.rows, columns))

    def update(self, state: Floats, columns: Ints, values: Floats, ready: Bools) -> list[Fired]:
        """Take the values of the next candle of each of `columns` (none twice), in place; what fires, rule by rule.

        `values` and `ready` are (names, len(columns)). A nan counts as unready.
        """
        fired: list[Fired] = []
        for row, rule in enumerate(self._rules):
            fired += rule.update(state[row], columns, values, ready)
        return fired


def signal_id(symbol: str, interval: str, rule: str, side: Side, open_time_ms: int) -> str:
    """The id of a signal: the same whoever computes it and whenever.

    >>> signal_id("BTCUSDT", "1h", "rsi", Side.BUY, 1_700_002_800_000)
    'BTCUSDT:1h:rsi:buy:1700002800000'
    """
    return f"{symbol}:{interval}:{rule}:{side}:{open_time_ms}"


def looked_at(settings: SignalSettings) -> dict[str, tuple[str, ...]]:
    """Rule → names of the values that it looks at; of two the first less the second.

    >>> looked_at(SignalSettings(("rsi", "ema_cross")))
    {'rsi': ('rsi_14',), 'ema_cross': ('ema_12', 'ema_26')}
    """
    return {rule: _names(rule, settings) for rule in settings.rules}


def reason(fired: Fired) -> str:
    """Why it fired, for a person to read.

    >>> reason(Fired(0, "rsi", Side.BUY, 28.4321, 30.0, "RSI 14"))
    'RSI 14 fell to 28.4, below 30'
    >>> reason(Fired(0, "ema_cross", Side.SELL, -0.25, 0.0, "EMA 12 and EMA 26"))
    'EMA 12 and EMA 26 crossed: the first fell below the second, by 0.25'
    """
    if fired.rule == RSI:
        moved = "fell to {}, below {:g}" if fired.side is Side.BUY else "rose to {}, above {:g}"
        return f"{fired.subject} {moved.format(_beyond(fired.value, fired.limit), fired.limit)}"
    moved = "rose above" if fired.side is Side.BUY else "fell below"
    return f"{fired.subject} crossed: the first {moved} the second, by {abs(fired.value):.6g}"


def _beyond(value: float, limit: float) -> str:
    """The value with one decimal, or as many as it takes to show that it is not the limit."""
    texts = (f"{value:.{decimals}f}" for decimals in range(1, _DECIMALS_MOST))
    return next((text for text in texts if float(text) != limit), repr(value))


class _Rule(Protocol):
    """One row of the state."""

    def update(self, state: Floats, columns: Ints, values: Floats, ready: Bools) -> Sequence[Fired]:
        """Take the next values; `state` is the row of this rule."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """A value passes a limit; again only after it has come back to `again`."""

    rule: str
    side: Side
    subject: str
    place: int
    limit: float
    again: float

    def update(self, state: Floats, columns: Ints, values: Floats, ready: Bools) -> Sequence[Fired]:
        value, before = values[self.place], state[columns]
        known = ready[self.place] & ~np.isnan(value)
        buys = self.side is Side.BUY
        beyond = value < self.limit if buys else value > self.limit
        back = value >= self.again if buys else value <= self.again
        armed = back | (~beyond & ((before == _UNSEEN) | (before == _ARMED)))
        state[columns] = np.where(known, np.where(armed, _ARMED, _SPENT), _UNSEEN)
        rows = np.flatnonzero(known & beyond & (before == _ARMED))
        return [Fired(row, self.rule, self.side, float(value[row]), self.limit, self.subject) for row in rows.tolist()]


@dataclass(frozen=True, slots=True)
class _Cross:
    """A line passes another one. That it only touches it, from whichever side, is no passing."""

    rule: str
    subject: str
    fast: int
    slow: int

    def update(self, state: Floats, columns: Ints, values: Floats, ready: Bools) -> Sequence[Fired]:
        value, before = values[self.fast] - values[self.slow], state[columns]
        known = ready[self.fast] & ready[self.slow] & ~np.isnan(value)
        level = np.abs(value) <= _ROUNDING * np.abs(values[self.slow])  # a coin that stands still would cross on noise
        side = np.where(level, np.where(before == _UNSEEN, _LEVEL, before), np.where(value > 0, _ABOVE, _BELOW))
        state[columns] = np.where(known, side, _UNSEEN)
        rows = np.flatnonzero(known & (before != _UNSEEN) & (side != before))
        sides = (Side.BUY if value[row] > 0 else Side.SELL for row in rows.tolist())
        return [Fired(row, self.rule, one, float(value[row]), 0.0, self.subject) for row, one in zip(rows.tolist(), sides, strict=True)]


def _rules_of(rule: str, settings: SignalSettings, names: tuple[str, ...]) -> list[_Rule]:
    places = _places(rule, _names(rule, settings), names, settings)
    if rule == RSI:
        (place,) = places
        subject, low, high, back = f"RSI {settings.rsi_period}", settings.rsi_low, settings.rsi_high, settings.hysteresis
        return [
            _Limit(rule, Side.BUY, subject, place, low, low + back),
            _Limit(rule, Side.SELL, subject, place, high, high - back),
        ]
    if rule == MACD_CROSS:
        return [_Cross(rule, f"MACD {'/'.join(map(str, settings.macd))} and its signal line", *places)]
    return [_Cross(rule, " and ".join(f"EMA {period}" for period in settings.ema), *places)]


def _names(rule: str, settings: SignalSettings) -> tuple[str, ...]:
    macd = "_".join(map(str, settings.macd))
    of_rule = {
        RSI: (f"rsi_{settings.rsi_period}",),
        MACD_CROSS: (f"macd_{macd}", f"macd_signal_{macd}"),
        EMA_CROSS: tuple(f"ema_{period}" for period in settings.ema),
    }
    if rule not in of_rule:
        raise ConfigError(f"signals.rules: expected {RSI}, {MACD_CROSS} or {EMA_CROSS}, got {rule!r}")
    return of_rule[rule]


def _places(rule: str, wanted: tuple[str, ...], names: tuple[str, ...], settings: SignalSettings) -> list[int]:
    missing = [name for name in wanted if name not in names]
    if missing:
        remedy = {
            RSI: f"{settings.rsi_period} to indicators.rsi",
            MACD_CROSS: f"{list(settings.macd)} to indicators.macd",
            EMA_CROSS: f"{' and '.join(map(str, settings.ema))} to indicators.ema",
        }[rule]
        raise ConfigError(
            f"signals.rules has {rule}, which looks at {' and '.join(missing)}, but the indicators don't compute that: "
            f"add {remedy}, or take {rule} out of signals.rules"
        )
    return [names.index(name) for name in wanted]
