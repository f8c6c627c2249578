"""Posted bars as candle history: whole candles, in the form in which the candles job takes the exchange's own. Pure.

A run of candles has no holes. Where trading rests the poster may say so (`holes=quiet`): then each missing candle is a flat one at
the close before, without volume, as the exchange itself sends an interval in which nothing was traded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from klinestream.ingest.models import BarPost
from klinestream.ingest.posted import Asked, Posted, ahead, collected, not_after, too_old
from klinestream.ingest.refusals import FAULTS_MOST, Fault, PostError, shown, unfit
from klinestream.market import decimals
from klinestream.market.codec import encode_event
from klinestream.market.events import SECOND_MS, CandleHistory, HistoryReason
from klinestream.market.intervals import INTERVALS, opened
from klinestream.market.topics import CANDLE_HISTORY
from klinestream.runtime.kafka import Record

ROWS_MOST = 1000
"""Candles in one record, as in one answer of the exchange."""


@dataclass(frozen=True, slots=True)
class BarRules:
    """How the bars of a request are meant."""

    interval: str = "1d"
    align: Literal["exact", "down"] = "exact"
    holes: Literal["new_run", "quiet"] = "new_run"
    candles_most: int = 10_000


@dataclass(frozen=True, slots=True)
class _Bar:
    """A whole candle, in units of 1e-8."""

    number: int
    """Of the request's bars; of a quiet one that before it."""
    symbol: str
    interval: str
    open_time_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote_volume: int
    trades: int

    @property
    def next_ms(self) -> int:
        return self.open_time_ms + INTERVALS[self.interval]

    def row(self) -> tuple[object, ...]:
        """As REST's klines have it; taker volumes, which nobody knows, are 0."""
        o, h, low, c, v, q, none = map(decimals.show, (self.open, self.high, self.low, self.close, self.volume, self.quote_volume, 0))
        return (self.open_time_ms, o, h, low, c, v, self.next_ms - 1, q, self.trades, none, none)

    def quiet_after(self) -> "_Bar":
        """The next candle, if nothing was traded."""
        return _Bar(self.number, self.symbol, self.interval, self.next_ms, self.close, self.close, self.close, self.close, 0, 0, 0)


def bars(values: Sequence[object], asked: Asked, rules: BarRules) -> Posted:
    """Records of `crypto_candle_history`; raises PostError."""
    newest: dict[str, int] = {}

    def check(number: int, post: BarPost) -> _Bar | Fault:
        bar = _bar(number, post, asked, rules)
        if isinstance(bar, Fault):
            return bar
        early = ahead(number, "timestamp", bar.next_ms - 1, asked.judged_ms)
        return early or not_after(number, "timestamp", f"{post.stock_symbol} {bar.interval}", bar.open_time_ms, newest) or bar

    runs = _runs(collected(values, BarPost, check), rules)
    # A record has the time of its last bar, and by that the topic keeps it: with a newer one behind it an older bar stays.
    gone = [too_old(run[-1].number, "timestamp", run[-1].next_ms - 1, asked.judged_ms, CANDLE_HISTORY) for run in runs]
    if faults := [fault for fault in gone if fault is not None]:
        raise unfit(faults[:FAULTS_MOST])
    headers = asked.headers()
    records = [Record(CANDLE_HISTORY.name, run[0].symbol.encode(), _value(run), run[-1].next_ms - 1, headers) for run in runs]
    return Posted(CANDLE_HISTORY, asked.source, len(values), records, [len(run) for run in runs])


def _bar(number: int, post: BarPost, asked: Asked, rules: BarRules) -> _Bar | Fault:
    interval = post.interval or rules.interval
    time_ms = post.timestamp * SECOND_MS
    began = opened(time_ms, INTERVALS[interval])
    if began != time_ms and rules.align == "exact":
        aligned = f"a time at which a candle of {interval} begins, such as {began // SECOND_MS}, or align=down in the request"
        return Fault(number, "timestamp", aligned, str(post.timestamp))
    o, h, low, c = post.opening_price, post.high, post.low, post.closing_price
    if not 0 < low <= h <= decimals.PRICE_MOST:
        return Fault(number, "low", "prices above 0 and below 9.2e10, low up to high", shown((decimals.show(low), decimals.show(h))))
    if not low <= min(o, c) <= max(o, c) <= h:
        name = "opening_price" if not low <= o <= h else "closing_price"
        return Fault(
            number, name, f"a price from low to high, {decimals.show(low)} to {decimals.show(h)}", decimals.show(getattr(post, name))
        )
    quote = post.volume * (h + low + c) // (3 * decimals.UNIT) if post.quote_volume is None else post.quote_volume
    if quote >= decimals.UNIT * 10**decimals.WHOLE_DIGITS:
        return Fault(number, "volume", f"a quote volume of up to {decimals.WHOLE_DIGITS} digits", decimals.show(quote)[:40])
    count = int(post.volume > 0) if post.trades is None else post.trades
    return _Bar(number, asked.symbol(post.stock_symbol), interval, began, o, h, low, c, post.volume, quote, count)


def _runs(found: Sequence[_Bar], rules: BarRules) -> list[list[_Bar]]:
    """Candles of one symbol and interval without a hole, in the order in which each began."""
    current: dict[tuple[str, str], list[_Bar]] = {}
    runs: list[list[_Bar]] = []
    candles = 0

    def add(bar: _Bar) -> None:
        nonlocal candles
        run = current.get((bar.symbol, bar.interval))
        if run is None or run[-1].next_ms != bar.open_time_ms or len(run) == ROWS_MOST:
            run = current[bar.symbol, bar.interval] = []
            runs.append(run)
        run.append(bar)
        candles += 1

    for bar in found:
        before = current.get((bar.symbol, bar.interval), [])
        last = before[-1] if before else bar
        if rules.holes == "quiet":
            missing = (bar.open_time_ms - last.next_ms) // INTERVALS[bar.interval]
            if candles + missing > rules.candles_most:
                raise PostError(
                    413,
                    "too_many",
                    f"up to {rules.candles_most} candles with those of the holes",
                    str(candles + missing),
                    "send fewer at once, or leave holes=quiet out",
                )
            while last.next_ms < bar.open_time_ms:
                last = last.quiet_after()
                add(last)
        add(bar)
    return runs


def _value(run: Sequence[_Bar]) -> bytes:
    return encode_event(CandleHistory(run[0].symbol, run[0].interval, HistoryReason.START, tuple(bar.row() for bar in run)))
