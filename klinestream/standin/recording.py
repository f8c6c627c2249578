"""Recorded frames of one symbol as columns: read from gzip files of lines `<recorder's clock, ns> <frame>`.

A frame is what the exchange's `/stream` sent, `{"stream": …, "data": …}`: trade, bookTicker or depth@100ms; other
streams are passed over. A line without a stream is a snapshot of the book as REST gives it. The files of a symbol share
the name before the first underscore and follow each other by name: btcusdt_20240808.gz, btcusdt_20240809.gz.

What can't be proved whole isn't served: trade ids, update ids and times must go on without a break through all files.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from klinestream.market import decimals
from klinestream.market.decimals import Ints
from klinestream.market.errors import ConfigError

FRAMES_MOST = 5_000_000
"""Frames of a symbol that are held at most: about 600 MB."""
_NS_PER_MS = 1_000_000
_PARSED_AT_ONCE = 200_000


@dataclass(frozen=True)
class Trades:
    """Trades in order of their ids; prices and quantities are int64 of 1e-8."""

    id: Ints
    price: Ints
    quantity: Ints
    time_ms: Ints
    event_ms: Ints
    maker: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tickers:
    """Updates of the best bid and ask, in order; they carry no time, so it is the recorder's, set by the exchange's clock."""

    update_id: Ints
    sizes: Ints
    """(updates, 4): bid, its quantity, ask, its quantity."""
    time_ms: Ints


@dataclass(frozen=True)
class Depth:
    """Diffs of the book in order, and the levels of all of them: those of diff i are `first_level[i]` to `first_level[i + 1]` - 1."""

    first_update_id: Ints
    last_update_id: Ints
    event_ms: Ints
    first_level: Ints
    price: Ints
    quantity: Ints
    asks: npt.NDArray[np.bool_]
    """The level is an ask."""


@dataclass(frozen=True)
class Snapshot:
    """The book as REST gave it while it was recorded; (levels, 2) of price and quantity a side."""

    last_update_id: int
    bids: Ints
    asks: Ints


@dataclass(frozen=True)
class Recording:
    """All that was recorded of one symbol."""

    symbol: str
    trades: Trades
    tickers: Tickers
    depth: Depth
    snapshot: Snapshot | None
    first_ms: int
    """Event time of the first frame that has one."""
    last_ms: int
    """Event time of the last frame that has one."""


@dataclass
class _Lines:
    """What the lines hold, gathered kind by kind before it becomes columns."""

    trades: list[tuple[int, int, int, bool]] = field(default_factory=list)
    trade_texts: list[str] = field(default_factory=list)
    tickers: list[tuple[int, int]] = field(default_factory=list)
    ticker_texts: list[str] = field(default_factory=list)
    diffs: list[tuple[int, int, int]] = field(default_factory=list)
    first_levels: list[int] = field(default_factory=lambda: [0])
    level_texts: list[str] = field(default_factory=list)
    level_asks: list[bool] = field(default_factory=list)
    clock_ahead_ns: list[int] = field(default_factory=list)
    snapshot: dict[str, Any] | None = None


def files_by_symbol(folder: Path) -> dict[str, list[Path]]:
    """Symbol, upper case → its files in order of time. Raises ConfigError where there are none."""
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.gz")):
        files.setdefault(file.name.partition("_")[0].removesuffix(".gz").upper(), []).append(file)
    if not files:
        raise ConfigError(f"expected recorded frames, files <symbol>_<date>.gz, in {folder}, found none: check standin.frames")
    return files


def load(symbol: str, files: list[Path], shift_ms: int = 0) -> Recording:
    """All frames of a symbol, all times later by `shift_ms`. Raises ConfigError where a line can't be used, or ids or times break."""
    lines = _Lines()
    taken = 0
    for file in files:
        for number, (clock_ns, frame) in enumerate(_frames(file), 1):
            taken += 1
            if taken > FRAMES_MOST:
                raise ConfigError(f"expected at most {FRAMES_MOST:,} recorded frames of {symbol}, {file} goes past that: serve fewer files")
            try:
                _take(lines, symbol, clock_ns, frame)
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(f"expected a recorded frame of {symbol} in {file}, line {number}: {error!r}") from None
    if not lines.clock_ahead_ns:
        raise ConfigError(f"expected trades or depth diffs of {symbol} in {files[0]} …, found none")
    try:
        return _columns(symbol, lines, shift_ms)
    except ValueError as error:
        raise ConfigError(f"expected the recording of {symbol} ({files[0]} …) to be whole: {error}") from None


def first_event_ms(symbol: str, files: list[Path]) -> int:
    """Event time of the symbol's first frame that has one, without reading the others."""
    for file in files:
        for _, frame in _frames(file):
            if "stream" in frame and "E" in frame["data"]:
                return int(frame["data"]["E"])
    raise ConfigError(f"expected trades or depth diffs of {symbol} in {files[0]} …, found none")


def _frames(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with gzip.open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                clock, _, frame = line.partition(b" ")
                try:
                    yield int(clock), orjson.loads(frame)
                except ValueError as error:
                    raise ConfigError(f"expected `<ns> <frame>` in {file}, line {number}, got {line[:60]!r}: {error}") from None
    except (OSError, EOFError) as error:
        raise ConfigError(f"expected a readable gzip file: {file}: {error}") from None


def _take(lines: _Lines, symbol: str, clock_ns: int, frame: dict[str, Any]) -> None:
    if "stream" not in frame:
        lines.snapshot = lines.snapshot or {name: frame[name] for name in ("lastUpdateId", "bids", "asks")}
        return
    data, (_, _, stream) = frame["data"], frame["stream"].partition("@")
    if stream not in ("trade", "bookTicker", "depth@100ms"):
        return
    if data["s"] != symbol:
        raise ValueError(f"its symbol is {data['s']}")
    if stream == "bookTicker":
        lines.tickers.append((data["u"], clock_ns))
        lines.ticker_texts += (data["b"], data["B"], data["a"], data["A"])
        return
    lines.clock_ahead_ns.append(data["E"] * _NS_PER_MS - clock_ns)
    if stream == "trade":
        lines.trades.append((data["t"], data["T"], data["E"], data["m"]))
        lines.trade_texts += (data["p"], data["q"])
        return
    lines.diffs.append((data["U"], data["u"], data["E"]))
    for side, is_ask in (("b", False), ("a", True)):
        for level in data[side]:
            lines.level_texts += level
            lines.level_asks.append(is_ask)
    lines.first_levels.append(len(lines.level_asks))


def _columns(symbol: str, lines: _Lines, shift_ms: int) -> Recording:
    trades, diffs = _table(lines.trades, 4), _table(lines.diffs, 3)
    trades[:, 1:3] += shift_ms
    diffs[:, 2] += shift_ms
    trade_sizes, levels = _decimals(lines.trade_texts, 2), _decimals(lines.level_texts, 2)
    _unbroken("trade ids", trades[:, 0], trades[:, 0])
    _unbroken("update ids", diffs[:, 0], diffs[:, 1])
    _rising("trade times", trades[:, 1])
    _rising("event times of diffs", diffs[:, 2])
    tickers = _table(lines.tickers, 2)
    # The median: what lies between sending and recording varies, the difference of the clocks doesn't.
    ahead_ns = int(np.median(np.array(lines.clock_ahead_ns)))
    ticker_ms = np.maximum.accumulate((tickers[:, 1] + ahead_ns) // _NS_PER_MS) + shift_ms
    events = np.concatenate([trades[:, 2], diffs[:, 2]])
    return Recording(
        symbol=symbol,
        trades=Trades(trades[:, 0], trade_sizes[:, 0], trade_sizes[:, 1], trades[:, 1], trades[:, 2], trades[:, 3].astype(bool)),
        tickers=Tickers(tickers[:, 0], _decimals(lines.ticker_texts, 4), ticker_ms),
        depth=Depth(
            first_update_id=diffs[:, 0],
            last_update_id=diffs[:, 1],
            event_ms=diffs[:, 2],
            first_level=np.array(lines.first_levels),
            price=levels[:, 0],
            quantity=levels[:, 1],
            asks=np.array(lines.level_asks, bool),
        ),
        snapshot=_snapshot(lines.snapshot) if lines.snapshot else None,
        first_ms=int(events.min()),
        last_ms=int(events.max()),
    )


def _table(rows: list[tuple[int, ...]] | list[Any], width: int) -> Ints:
    return np.array(rows, np.int64).reshape(-1, width)


def _decimals(texts: list[str], width: int) -> Ints:
    """Decimal strings, `width` to a row, as int64 of 1e-8. Raises ValueError."""
    parts = [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _PARSED_AT_ONCE):
        whole, remainder = decimals.columns(texts[start : start + _PARSED_AT_ONCE], 1)
        if np.any(whole > decimals.PRICE_MOST // decimals.UNIT - 1):
            raise ValueError(f"a price or quantity is {whole.max()}, more than an int64 of 1e-8 holds")
        parts.append((whole * decimals.UNIT + remainder).reshape(-1))
    return np.concatenate(parts).reshape(-1, width)


def _snapshot(frame: dict[str, Any]) -> Snapshot:
    bids, asks = (_decimals([text for level in frame[side] for text in level], 2) for side in ("bids", "asks"))
    return Snapshot(frame["lastUpdateId"], bids, asks)


def _unbroken(what: str, first: Ints, last: Ints) -> None:
    breaks = np.flatnonzero(first[1:] != last[:-1] + 1)
    if len(breaks):
        raise ValueError(f"{what} don't go on from {last[breaks[0]]} to {first[breaks[0] + 1]}")


def _rising(what: str, times: Ints) -> None:
    falls = np.flatnonzero(np.diff(times) < 0)
    if len(falls):
        raise ValueError(f"{what} fall from {times[falls[0]]} to {times[falls[0] + 1]}")
