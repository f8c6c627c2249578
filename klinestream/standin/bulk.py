"""Bulk files of past days in the form of the exchange's public archive, made from a market.

    OUT/spot/daily/klines/BTCUSDT/1s/BTCUSDT-1s-2024-01-02.zip            one CSV, without a header
                                     BTCUSDT-1s-2024-01-02.zip.CHECKSUM   a line for `sha256sum -c`
    OUT/spot/monthly/trades/BTCUSDT/BTCUSDT-trades-2024-01.zip

Times are ms in files of days before 2025, µs from then on. The same market gives the same bytes.
"""

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from klinestream.market.decimals import show
from klinestream.market.errors import ConfigError
from klinestream.market.events import SECOND_MS
from klinestream.standin.intervals import DAY_MS, HOUR_MS, INTERVALS, Interval
from klinestream.standin.market import AggTrade, Candle, Market, Trade

KINDS = ("klines", "trades", "aggTrades")
MICROSECONDS_FROM_MS = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()) * SECOND_MS
_CHUNK_MS = HOUR_MS  # at most some thousand candles are asked for at once
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the least one: nothing depends on when a file is made
_BOOLS = ("False", "True")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files of each symbol."""

    kind: str
    interval: str
    """Of klines."""
    first: date
    last: date
    """Inclusive."""
    monthly: bool = False
    """A file a month, of whole months, in place of one a day."""

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.kind not in KINDS:
            raise ConfigError(f"--kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.kind == "klines" and (self.interval not in INTERVALS or INTERVALS[self.interval].length_ms not in range(1, DAY_MS + 1)):
            raise ConfigError(f"--interval: expected an interval of 1s to 1d, got {self.interval!r}")
        if self.first > self.last:
            raise ConfigError(f"--from, --to: expected a first day not after the last, got {self.first} and {self.last}")


def make(market: Market, symbols: Sequence[str], wanted: Wanted, out: Path) -> Iterator[Path]:
    """Write the files, one after the other. Raises ConfigError for a symbol that the market doesn't list."""
    unknown = [symbol for symbol in symbols if symbol not in market.symbols]
    if unknown:
        raise ConfigError(f"--symbols: expected symbols of the stand-in's market, got {', '.join(unknown)}")
    folder = out / "spot" / ("monthly" if wanted.monthly else "daily") / wanted.kind
    for symbol in symbols:
        of_symbol = folder / symbol / (wanted.interval if wanted.kind == "klines" else "")
        for label, from_ms, to_ms in _spans(wanted):
            stem = f"{symbol}-{wanted.interval if wanted.kind == 'klines' else wanted.kind}-{label}"
            yield write(of_symbol, stem, lines(market, symbol, wanted, from_ms, to_ms))


def write(folder: Path, stem: str, rows: Iterator[str]) -> Path:
    """A zip of one CSV with these lines, and its CHECKSUM file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        about = zipfile.ZipInfo(f"{stem}.csv", _ZIP_TIME)
        about.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(about, "w") as member:
            for row in rows:
                member.write(f"{row}\n".encode())
    sign(path)
    return path


def sign(path: Path) -> None:
    """Write the CHECKSUM file of a zip."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")


def lines(market: Market, symbol: str, wanted: Wanted, from_ms: int, to_ms: int) -> Iterator[str]:
    """The CSV's lines of a span."""
    to_told = SECOND_MS if from_ms >= MICROSECONDS_FROM_MS else 1
    for begin in range(from_ms, to_ms, _CHUNK_MS):
        end = min(begin + _CHUNK_MS, to_ms)
        if wanted.kind == "klines":
            interval = INTERVALS[wanted.interval]
            for candle in market.candles(symbol, interval, begin, end, to_ms):
                yield _kline(candle, interval, to_told)
        elif wanted.kind == "trades":
            yield from (_trade(trade, to_told) for trade in market.trades(symbol, begin, end))
        else:
            yield from (_agg_trade(trade, to_told) for trade in market.agg_trades(symbol, begin, end))


def _kline(candle: Candle, interval: Interval, to_told: int) -> str:
    closes = interval.shift(candle.open_time_ms, 1) * to_told - 1
    prices = ",".join(map(show, (candle.open, candle.high, candle.low, candle.close, candle.base_volume)))
    taker = f"{show(candle.taker_base_volume)},{show(candle.taker_quote_volume)}"
    return f"{candle.open_time_ms * to_told},{prices},{closes},{show(candle.quote_volume)},{candle.trades},{taker},0"


def _trade(trade: Trade, to_told: int) -> str:
    amounts = f"{show(trade.price)},{show(trade.quantity)},{show(trade.quote_quantity)}"
    return f"{trade.id},{amounts},{trade.time_ms * to_told},{_BOOLS[trade.buyer_is_maker]},True"


def _agg_trade(trade: AggTrade, to_told: int) -> str:
    ids = f"{trade.first_trade_id},{trade.last_trade_id}"
    return f"{trade.id},{show(trade.price)},{show(trade.quantity)},{ids},{trade.time_ms * to_told},{_BOOLS[trade.buyer_is_maker]},True"


def _spans(wanted: Wanted) -> Iterator[tuple[str, int, int]]:
    """Each file's day or month, and its span."""
    begin = wanted.first.replace(day=1) if wanted.monthly else wanted.first
    while begin <= wanted.last:
        after = (begin.replace(day=1) + timedelta(days=31)).replace(day=1) if wanted.monthly else begin + timedelta(days=1)
        yield begin.isoformat()[: 7 if wanted.monthly else 10], _ms(begin), _ms(after)
        begin = after


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * SECOND_MS
