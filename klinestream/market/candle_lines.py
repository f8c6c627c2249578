"""What the candles' engine gave as lines of text, a record each: field for field as `codec.encode_event` writes events."""

from collections.abc import Callable, Iterable, Sequence

import orjson

from klinestream.market import candles
from klinestream.market.candle_engine import AggregateRows, CandleStep
from klinestream.market.candles import UNKNOWN_ID, VOLUMES, ProvisionalRows, price, volume
from klinestream.market.codec import encode_event
from klinestream.market.decimals import UNIT, Ints, ratio
from klinestream.market.events import SECOND_MS, CandleOrigin, Signal, SignalState
from klinestream.market.intervals import INTERVALS
from klinestream.market.lines import record_line
from klinestream.market.signals import reason, signal_id
from klinestream.market.study import StudyRows

_PRICES = (candles.OPEN, candles.HIGH, candles.LOW, candles.CLOSE)
_AGGREGATE_NAMES = ("volume", "average_volume", "average_open", "average_close", "low", "high")


def candle_lines(symbols: Sequence[str], interval: str, table: Ints, origin: CandleOrigin, revision: int) -> list[str]:
    """Lines of `crypto_candles`."""
    length_ms = INTERVALS[interval]
    opened = (table[candles.BEGAN] - table[candles.BEGAN] % length_ms).tolist()
    prices = [_decimals(*divmod(table[row], UNIT)) for row in _PRICES]
    volumes = [_decimals(*volume(table, whole)) for whole, _ in VOLUMES]
    ids = [["null" if i == UNKNOWN_ID else str(i) for i in table[row].tolist()] for row in (candles.FIRST_ID, candles.LAST_ID)]
    counts = table[candles.COUNT].tolist()
    whole = length_ms // SECOND_MS
    history = origin is CandleOrigin.HISTORY
    columns = (symbols, opened, *prices, *volumes, table[candles.TRADES].tolist(), *ids, counts)
    return [
        f'{s}\t{t + length_ms - 1}\t{{"s":"{s}","i":"{interval}","t":{t},"T":{t + length_ms - 1},"o":"{o}","h":"{h}","l":"{low}","c":"{c}",'
        f'"v":"{v}","q":"{q}","V":"{tv}","Q":"{tq}","n":{n},"f":{first},"L":{last},"klines":{count},'
        f'"complete":{"true" if history or count == whole else "false"},"origin":"{origin.value}","revision":{revision}}}'
        for s, t, o, h, low, c, v, q, tv, tq, n, first, last, count in zip(*columns, strict=True)
    ]


def _decimals(whole: Ints, rest: Ints) -> list[str]:
    return [f"{w}.{r:08d}" for w, r in zip(whole.tolist(), rest.tolist(), strict=True)]


def provisional_lines(symbols: Sequence[str], intervals: Sequence[str], rows: ProvisionalRows) -> list[str]:
    """Lines of `crypto_candles_provisional`."""
    by_interval = []
    for table in rows.tables:
        volumes = [ratio(*volume(table, whole)) for whole, _ in VOLUMES]
        columns = (*(price(table, row) for row in _PRICES), *volumes, table[candles.TRADES], table[candles.COUNT])
        by_interval.append(zip(*(column.tolist() for column in columns), strict=True))
    lines = []
    for symbol, opened, *parts in zip(symbols, rows.open_times.tolist(), *by_interval, strict=True):
        time_ms = opened + SECOND_MS - 1
        value = orjson.dumps({"s": symbol, "T": time_ms, "candles": dict(zip(intervals, parts, strict=True))})
        lines.append(record_line(symbol, time_ms, value))
    return lines


def indicator_lines(rows: StudyRows, revisions: Sequence[int] | None = None) -> list[str]:
    """Lines of `crypto_indicators`; `revisions` one a row, where a repair gives them."""
    columns = (rows.open_times.tolist(), rows.close.tolist(), rows.since.tolist(), rows.values.T.tolist(), (~rows.ready).T.tolist())
    lines = []
    for symbol, interval, revision, opened, close, since, values, unready in zip(
        rows.symbols, rows.intervals, _each(revisions, len(rows)), *columns, strict=True
    ):
        closed = opened + INTERVALS[interval] - 1
        record = {
            "s": symbol,
            "i": interval,
            "t": opened,
            "T": closed,
            "c": close,
            "values": dict(zip(rows.names, values, strict=True)),  # orjson writes nan as null
            "unready": [name for name, is_unready in zip(rows.names, unready, strict=True) if is_unready],
            "since": since,
            "revision": revision,
        }
        lines.append(record_line(symbol, closed, orjson.dumps(record)))
    return lines


def _each(revisions: Sequence[int] | None, count: int) -> list[int]:
    return [0] * count if revisions is None else list(revisions)


def signals_of(rows: StudyRows, revisions: Sequence[int] | None = None) -> list[Signal]:
    """The signals that fired; `revisions` one a row, where a repair gives them."""
    found = []
    each = _each(revisions, len(rows))
    for fired in rows.fired:
        symbol, interval, opened = rows.symbols[fired.row], rows.intervals[fired.row], int(rows.open_times[fired.row])
        found.append(
            Signal(
                id=signal_id(symbol, interval, fired.rule, fired.side, opened),
                symbol=symbol,
                interval=interval,
                open_time_ms=opened,
                close_time_ms=opened + INTERVALS[interval] - 1,
                side=fired.side,
                rule=fired.rule,
                state=SignalState.FIRED,
                price=float(rows.close[fired.row]),
                value=fired.value,
                limit=fired.limit,
                reason=reason(fired),
                since_ms=int(rows.since[fired.row]),
                revision=each[fired.row],
            )
        )
    return found


def aggregate_lines(rows: AggregateRows, revisions: Sequence[int] | None = None) -> list[str]:
    """Lines of `crypto_aggregates`; `revisions` one a row, where a repair gives them."""
    lines = []
    minute_ms = INTERVALS["1m"]
    columns = (rows.open_times.tolist(), rows.since.tolist(), rows.day.T.tolist(), rows.totals.T.tolist())
    for symbol, revision, opened, since, day, totals in zip(rows.symbols, _each(revisions, len(rows.symbols)), *columns, strict=True):
        record: dict[str, object] = {"s": symbol, "t": opened, "T": opened + minute_ms - 1, "day_candles": int(day[0])}
        record |= {f"day_{name}": value for name, value in zip(_AGGREGATE_NAMES, day[1:], strict=True)}
        record |= {"candles": int(totals[0])} | dict(zip(_AGGREGATE_NAMES, totals[1:], strict=True))
        record |= {"since": since, "revision": revision}
        lines.append(record_line(symbol, opened + minute_ms - 1, orjson.dumps(record)))
    return lines


def signal_lines(signals: Iterable[Signal]) -> list[str]:
    """Lines of `crypto_signals`."""
    return [record_line(signal.symbol, signal.close_time_ms, encode_event(signal)) for signal in signals]


def built_lines(step: CandleStep, symbols: Callable[[Iterable[int]], list[str]]) -> list[str]:
    """Lines of `crypto_candles` for all candles that were built; `symbols` names columns."""
    return [line for rows in step.closed for line in candle_lines(symbols(rows.columns), rows.interval, rows.table, CandleOrigin.BUILT, 0)]


def history_lines(step: CandleStep) -> list[str]:
    """Lines of `crypto_candles` for the exchange's own."""
    return [
        line
        for entry in step.history
        for line in candle_lines([entry.symbol] * entry.table.shape[1], entry.interval, entry.table, CandleOrigin.HISTORY, entry.revision)
    ]
