"""The exchange's klines beside those that its trades make: each second, as soon as all of its trades are in.

    trades    │··· ·│  ·  │     │··           the second's trades are in once the newest id is the kline's `last_trade_id`
    seconds   │  a  │  b  │  -  │             built as the trades come; without any the close is carried on
    klines        a     b     b'              field by field: o h l c v q V Q n f L last_trade_id

Quote volume: sums are exact and cut off after the eighth decimal once. Where a trade's own product has more than eight, the
exchange doesn't say where it rounds: then as much as 1e-8 for each such trade is let pass, and nothing otherwise.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market import trade_cells
from klinestream.market.batch import UNKNOWN_ID, KlineBatch
from klinestream.market.decimals import UNIT, Ints, show
from klinestream.market.indicators.protocol import Bools
from klinestream.market.trade_cells import Cells
from klinestream.market.trade_runs import SECONDS, SECONDS_REMEMBERED, SINCE_MS, TradeState
from klinestream.market.trade_seconds import carried_over

NUMBER, OPENED = 0, 1
_PRICES, _VOLUMES, _RESTS, _TRADES, _IDS = slice(2, 6), slice(6, 10), slice(10, 14), 14, slice(15, 17)
LAST = 17
_ROWS = 18
"""Klines as one array: the symbol's number, open time, o h l c, v q V Q in whole units and remainders, n, f, L, last_trade_id."""

_PRICE_NAMES, _VOLUME_NAMES, _ID_NAMES = ("o", "h", "l", "c"), ("v", "q", "V", "Q"), ("f", "L", "last_trade_id")
_TOP_END = 100  # of a quote volume's highest digit: what is above fits no kline


@dataclass(frozen=True, slots=True)
class KlineDifference:
    """A kline that its trades contradict: wire name → what the kline says, and what its trades make."""

    symbol: str
    open_time_ms: int
    fields: dict[str, tuple[str, str]]

    def __str__(self) -> str:
        told = "; ".join(f"{name} {ours} in the kline, {built} from its trades" for name, (ours, built) in self.fields.items())
        return f"{self.symbol} {self.open_time_ms}: {told}"


@dataclass(slots=True)
class Compared:
    """How many klines were as their trades make them, and what differed."""

    equal: int
    unchecked: int
    differences: list[KlineDifference]


def no_klines() -> Ints:
    """Room for klines that wait."""
    return np.zeros((_ROWS, 0), np.int64)


def rows_of(batch: KlineBatch, numbers: Ints) -> Ints:
    """A batch as one array."""
    single = (numbers, batch.open_times, *batch.prices, *batch.volumes, *batch.remainders, batch.trades, *batch.ids)
    return np.stack(single) if len(batch) else no_klines()


def add_seconds(state: TradeState, columns: Ints, opened: Ints, cells: Cells) -> None:
    """Keep what these seconds' trades add up to; sorted by column and time, a second once."""
    if not len(columns):
        return
    starts = np.flatnonzero(np.append(True, columns[1:] != columns[:-1]))
    rank = np.arange(len(columns)) - np.repeat(starts, np.diff(np.append(starts, len(columns))))
    written = state.marks[SECONDS, columns]
    newest = (written - 1) % SECONDS_REMEMBERED
    goes_on = (rank == 0) & (written > 0) & (state.opened[newest, columns] == opened)
    at = goes_on.nonzero()[0]
    if len(at):
        slots, mine = newest[at], columns[at]
        state.seconds[:, slots, mine] = trade_cells.added(state.seconds[:, slots, mine], cells[:, at])
        if len(at) == len(columns):
            return
    joined = np.repeat(goes_on[starts], np.diff(np.append(starts, len(columns))))
    at = (~goes_on).nonzero()[0]
    number = written[at] + rank[at] - joined[at]
    state.seconds[:, number % SECONDS_REMEMBERED, columns[at]] = cells[:, at]
    state.opened[number % SECONDS_REMEMBERED, columns[at]] = opened[at]
    state.marks[SECONDS, columns[at]] = number + 1  # the last of a column's is what stays


def compare(state: TradeState, klines: Ints, columns: Ints) -> Compared:
    """Klines beside the seconds of the runs that hold their trades, all of them in."""
    opened, every = klines[OPENED], np.arange(klines.shape[1])
    held = state.opened[:, columns]
    known = np.where(held <= opened, held, trade_cells.NO_ID)
    place = known.argmax(axis=0)
    found = known[place, every]
    # What was there before the run's first trade nobody knows; of what is no longer held neither.
    checked = (found >= 0) & (opened > state.marks[SINCE_MS, columns])
    built = state.seconds[:, place, columns]
    traded = found == opened
    expected = _expected(built, traded)
    wrong = _wrong(klines, expected, np.where(traded, built, 0)) & checked
    differ = wrong.any(axis=0)
    differences = [_difference(state, klines[:, i], expected[:, i], wrong[:, i]) for i in np.flatnonzero(differ).tolist()]
    return Compared(int((checked & ~differ).sum()), int((~checked).sum()), differences)


def _expected(built: Cells, traded: Bools) -> Ints:
    """Klines as their trades make them, like `rows_of`."""
    rows = np.empty((_ROWS, built.shape[1]), np.int64)
    close = built[trade_cells.CLOSE]
    rows[_PRICES] = np.where(traded, built[[trade_cells.OPEN, trade_cells.HIGH, trade_cells.LOW, trade_cells.CLOSE]], close)
    volumes = [_base(built, trade_cells.BASE), _quote(built, trade_cells.QUOTE)]
    volumes += [_base(built, trade_cells.TAKER_BASE), _quote(built, trade_cells.TAKER_QUOTE)]
    rows[_VOLUMES] = np.where(traded, np.stack([whole for whole, _ in volumes]), 0)
    rows[_RESTS] = np.where(traded, np.stack([rest for _, rest in volumes]), 0)
    rows[_TRADES] = np.where(traded, built[trade_cells.COUNT], 0)
    rows[_IDS] = np.where(traded, built[[trade_cells.FIRST_ID, trade_cells.LAST_ID]], trade_cells.NO_ID)
    rows[LAST] = built[trade_cells.LAST_ID]
    return rows


def _base(built: Cells, field: int) -> tuple[Ints, Ints]:
    carry, rest = np.divmod(built[field + 1], UNIT)
    return built[field] + carry, rest


def _quote(built: Cells, field: int) -> tuple[Ints, Ints]:
    _, rest, low, high, top = carried_over([built[field + place].copy() for place in range(5)])
    return low + high * UNIT + np.minimum(top, _TOP_END) * UNIT**2, rest


def _wrong(klines: Ints, expected: Ints, built: Cells) -> Bools:
    """(names, klines): what differs, in the order of `_NAMES`."""
    other = klines != expected
    volumes = other[_VOLUMES] | other[_RESTS]
    for place in (1, 3):  # quote
        wholes, rests = (klines[part][place] - expected[part][place] for part in (_VOLUMES, _RESTS))
        volumes[place] &= (abs(wholes) > 1) | (abs(wholes * UNIT + rests) > built[trade_cells.FINER])
    volumes[2:] &= built[trade_cells.UNKNOWN] == 0
    ids = other[_IDS] & (klines[_IDS] != UNKNOWN_ID)
    return np.concatenate([other[_PRICES], volumes, other[_TRADES][None], ids, other[LAST][None]])


_NAMES = (*_PRICE_NAMES, *_VOLUME_NAMES, "n", *_ID_NAMES)


def _difference(state: TradeState, kline: Ints, expected: Ints, wrong: Bools) -> KlineDifference:
    pairs = zip(_texts(kline), _texts(expected), strict=True)
    fields = {name: pair for name, pair, is_wrong in zip(_NAMES, pairs, wrong.tolist(), strict=True) if is_wrong}
    return KlineDifference(state.symbols[int(kline[NUMBER])], int(kline[OPENED]), fields)


def _texts(row: Ints) -> list[str]:
    """A row as on the wire, in the order of `_NAMES`."""
    volumes = (show(whole * UNIT + rest) for whole, rest in zip(row[_VOLUMES].tolist(), row[_RESTS].tolist(), strict=True))
    return [*map(show, row[_PRICES].tolist()), *volumes, str(row[_TRADES]), *map(str, row[_IDS].tolist()), str(row[LAST])]
