"""The queries that we show, each over what the engine makes of a market, next to the same thing computed in another way."""

import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candle_lines import built_lines, indicator_lines
from klinestream.market.codec import decode_event, encode_event
from klinestream.market.decimals import UNIT
from klinestream.market.events import Candle, FeedGap, GapState, Indicators, Kline, Side, Signal, SignalState, Window, gap_id
from klinestream.market.signals import signal_id
from klinestream.market.tables import BY_NAME
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.stores.clickhouse import script
from tests.clickhouse import ClickHouse, feed, made
from tests.klines import kline

QUERIES = Path(script.__file__).parent / "queries"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "ETHBTC")
MINUTES, MINUTE_MS = 165, 60_000
START_MS = (time.time_ns() // 1_000_000 // 3_600_000 - 4) * 3_600_000
BEGIN, END = (datetime.fromtimestamp(at // 1000, UTC) for at in (START_MS, START_MS + MINUTES * MINUTE_MS))
WINDOWS_MS = 120_000  # of the first symbol, from the start
Rows = list[dict[str, Any]]


def market() -> list[Kline]:
    """Random walks, some seconds of one symbol missing."""
    chosen = random.Random(11)
    prices = {symbol: chosen.randrange(50, 5000) * UNIT for symbol in SYMBOLS}
    found = []
    for second in range(MINUTES * 60):
        for symbol in SYMBOLS:
            opened = prices[symbol]
            closed = prices[symbol] = max(UNIT, opened + chosen.randrange(-(10**6), 10**6 + 1))
            if symbol == SYMBOLS[2] and 3700 <= second < 3710:
                continue
            volume = chosen.randrange(10**9)
            found.append(
                kline(
                    symbol,
                    open=opened,
                    close=closed,
                    high=max(opened, closed) + 7,
                    low=min(opened, closed) - 7,
                    base_volume=volume,
                    quote_volume=volume * 3,
                    taker_base_volume=volume // 3,
                    taker_quote_volume=volume,
                    trades=chosen.randrange(50),
                    open_time_ms=START_MS + second * 1000,
                    close_time_ms=START_MS + second * 1000 + 999,
                )
            )
    return found


def signals(candles: list[Candle]) -> list[Signal]:
    """A word on every eleventh candle, some of them withdrawn."""
    found = []
    for number, each in enumerate(candles[::11]):
        side = Side.BUY if number % 3 else Side.SELL
        state = SignalState.WITHDRAWN if number % 7 == 0 else SignalState.FIRED
        opened, price = each.open_time_ms, each.close / UNIT
        name = signal_id(each.symbol, each.interval, "rsi", side, opened)
        candle = (name, each.symbol, each.interval, opened, each.close_time_ms)
        found.append(Signal(*candle, side, "rsi", state, price, 1.0, 1.0, "why", START_MS, 0))
    return found


def gaps() -> list[FeedGap]:
    """Stories of gaps, told by two producers."""
    found = []
    for number, states in enumerate(
        (["detected", "refilled"], ["detected", "deferred", "repaired"], ["detected", "deferred", "unfillable"])
    ):
        from_ms = START_MS + number * 100_000
        to_ms = from_ms + 3000 * (number + 1)
        for producer in ("east", "west"):
            for place, state in enumerate(states[: 3 if producer == "east" else 1]):
                name = gap_id(SYMBOLS[number], from_ms, to_ms)
                at = to_ms + place * 1000 + (5 if producer == "west" else 0)
                found.append(FeedGap(name, SYMBOLS[number], GapState(state), producer, from_ms, to_ms, place, "rest", True, None, "", at))
    return found


class Market:
    """What was published of one market, and an engine whose tables were made of it."""

    def __init__(self, engine: ClickHouse, folder: Path) -> None:
        self.engine = engine
        klines = market()
        candles = CandleEngine(CandleSettings(intervals=("1m", "5m")))
        step = candles.step(from_klines(klines))
        lines = {
            "candles": _values(built_lines(step, candles.symbols)),
            "indicators": _values(line for rows in step.studies for line in indicator_lines(rows)),
        }
        self.candles = [decode_event(Candle, line) for line in lines["candles"]]
        self.indicators = [decode_event(Indicators, line) for line in lines["indicators"]]
        self.klines = [each for each in klines if each.symbol == SYMBOLS[0] and each.open_time_ms < START_MS + WINDOWS_MS]
        windows: list[Window] = [
            one for rows in WindowEngine(WindowSettings()).step(from_klines(self.klines)).windows for one in rows.events()
        ]
        self.signals, self.gaps = signals(self.candles), gaps()
        for name, events in (("windows", windows), ("signals", self.signals), ("gaps", self.gaps)):
            lines[name] = [encode_event(event) for event in events]  # type: ignore[attr-defined]  # several kinds of events
        lines["events"] = [b"\x00garbage", b"{}", b"{}"]
        made(script.statements(), engine)
        engine.run("USE klinestream")
        for name, values in lines.items():
            feed(engine, BY_NAME[name], values, folder / "lines.txt")

    def ask(self, name: str, **params: object) -> Rows:
        """A query's rows over the whole span, but where told otherwise."""
        span = {"from": _text(BEGIN), "until": _text(END)}
        return self.engine.rows((QUERIES / f"{name}.sql").read_text(), **(span | params))


def _values(lines: Iterator[str] | list[str]) -> list[bytes]:
    return [line.split("\t")[2].encode() for line in lines]


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    engine = ClickHouse(tmp_path_factory.mktemp("clickhouse"))
    engine.start()
    yield Market(engine, tmp_path_factory.mktemp("lines"))
    engine.stop()


def minutes_of(store: Market) -> pl.DataFrame:
    """The 1m candles, prices and volumes as integers of 1e-8."""
    columns = (
        "symbol",
        "open_time_ms",
        "open",
        "high",
        "low",
        "close",
        "quote_volume",
        "taker_quote_volume",
        "base_volume",
        "trades",
        "complete",
    )
    rows = [{name: getattr(each, name) for name in columns} for each in store.candles if each.interval == "1m"]
    return pl.DataFrame(rows).sort("symbol", "open_time_ms")


@pytest.mark.parametrize("minutes", [1, 5, 7, 60])
@pytest.mark.parametrize("symbol", [SYMBOLS[0], SYMBOLS[2]])
def test_candles_at_any_interval(store: Market, symbol: str, minutes: int) -> None:
    """Each is what polars groups of the minutes, exactly; and `whole` only where no second of it is missing."""
    found = store.ask("candles_at", symbol=symbol, minutes=minutes)
    right = (
        minutes_of(store)
        .filter(pl.col("symbol") == symbol)
        .group_by(pl.col("open_time_ms") // (minutes * MINUTE_MS) * (minutes * MINUTE_MS), maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("base_volume", "quote_volume", "trades").sum(),
            whole=(pl.len() == minutes) & pl.col("complete").all(),
        )
    )
    names = ("open", "high", "low", "close", "base_volume", "quote_volume")

    def shown(row: dict[str, Any]) -> tuple[object, ...]:
        return (_time(row["time"]).timestamp() * 1000, *(Decimal(row[name]) * UNIT for name in names), row["trades"], row["whole"])

    assert [shown(row) for row in found] == right.select("open_time_ms", *names, "trades", "whole").rows()
    within = [row["whole"] for row in found[1:-1]]
    assert all(within) is (symbol == SYMBOLS[0] or not within)


@pytest.mark.parametrize("seconds", [3, 30])
def test_prices_at_any_multiple_of_a_window(store: Market, seconds: int) -> None:
    """Windows edge to edge give what the klines themselves give, each second counted once."""
    found = store.ask("prices_at", symbol=SYMBOLS[0], seconds=seconds)
    by_step: dict[int, list[Kline]] = defaultdict(list)
    for each in store.klines:
        by_step[each.open_time_ms // 1000 // seconds * seconds].append(each)
    right = []
    before = None
    for second, part in sorted(by_step.items()):
        high, low = max(k.high for k in part) / UNIT, min(k.low for k in part) / UNIT
        right.append((second, before, high, low, part[-1].close / UNIT, len(part) == seconds))
        before = part[-1].close / UNIT
    assert [(_time(row["time"]).timestamp(), row["open"], row["high"], row["low"], row["close"], row["whole"]) for row in found] == right
    for row, (_, part) in zip(found, sorted(by_step.items()), strict=True):
        assert math.isclose(row["volume"], sum(k.base_volume for k in part) / UNIT, rel_tol=1e-12)


def test_top_movers(store: Market) -> None:
    """The symbols by how far they moved from their first open to their last close."""
    found = store.ask("top_movers", limit=3)
    span = minutes_of(store).group_by("symbol").agg(pl.col("open").first(), pl.col("close").last(), pl.col("quote_volume").sum())
    moved = {row["symbol"]: (row["close"] / row["open"] - 1) * 100 for row in span.to_dicts()}
    assert [row["symbol"] for row in found] == sorted(moved, key=lambda symbol: -abs(moved[symbol]))[:3]
    for row in found:
        assert math.isclose(row["change_percent"], moved[row["symbol"]], abs_tol=1e-9)
        assert Decimal(row["traded"]) * UNIT == span.filter(pl.col("symbol") == row["symbol"])["quote_volume"].item()


def test_volume_leaders(store: Market) -> None:
    """The symbols of one quote by what was traded, with their shares; those of another quote are none of them."""
    found = store.ask("volume_leaders", quote="USDT", limit=10)
    span = minutes_of(store).filter(pl.col("symbol").str.ends_with("USDT")).group_by("symbol").agg(pl.exclude("symbol").sum())
    rows = span.sort("quote_volume", descending=True).to_dicts()
    assert [(row["symbol"], Decimal(row["traded"]) * UNIT, row["number_of_trades"]) for row in found] == [
        (row["symbol"], row["quote_volume"], row["trades"]) for row in rows
    ]
    assert math.isclose(sum(row["share"] for row in found), 1)
    for row, right in zip(found, rows, strict=True):
        assert math.isclose(row["bought_share"], right["taker_quote_volume"] / right["quote_volume"])


def test_rsi_heat(store: Market) -> None:
    """A cell is the newest converged RSI in it, to the last bit; where none has converged there is no cell."""
    found = store.ask("rsi_heat", interval="1m", reading="rsi_14", minutes=5)
    right: dict[tuple[str, int], float] = {}
    for each in sorted(store.indicators, key=lambda one: one.open_time_ms):
        value = each.values["rsi_14"]
        if each.interval == "1m" and value is not None and "rsi_14" not in each.unready:
            right[each.symbol, each.open_time_ms // (5 * MINUTE_MS) * 5 * MINUTE_MS] = value
    assert right
    assert {(row["symbol"], int(_time(row["time"]).timestamp() * 1000)): row["value"] for row in found} == right


def test_signal_hits(store: Market) -> None:
    """Signals that stand, next to the closes so many candles later; one whose later candle isn't there is known to nobody."""
    found = store.ask("signal_hits", candles=4)
    closes = {(each.symbol, each.interval, each.open_time_ms): each.close / UNIT for each in store.candles}
    length = {"1m": MINUTE_MS, "5m": 5 * MINUTE_MS}
    right: dict[tuple[str, str, str], list[float | None]] = defaultdict(list)
    for each in store.signals:
        if each.state == SignalState.FIRED:
            later = closes.get((each.symbol, each.interval, each.open_time_ms + 4 * length[each.interval]))
            move = None if later is None else (1 if each.side == Side.BUY else -1) * (later / each.price - 1) * 100
            right[each.rule, each.interval, each.side].append(move)
    assert any(None in moves for moves in right.values())
    assert {(row["rule"], row["interval"], row["side"]) for row in found} == right.keys()
    for row in found:
        moves = right[row["rule"], row["interval"], row["side"]]
        known = [move for move in moves if move is not None]
        assert (row["signals"], row["known"], row["hits"]) == (len(moves), len(known), sum(move > 0 for move in known))
        assert math.isclose(row["mean_gain_percent"], sum(known) / len(known), abs_tol=1e-9)


def test_gap_report(store: Market) -> None:
    """Of each gap the furthest state, whoever reached it, and when."""
    found = store.ask("gap_report")
    shown = [(row["symbol"], row["state"], row["seconds"], row["obtained"], row["producers"]) for row in found]
    assert shown == [
        (SYMBOLS[2], "unfillable", 9, 2, ["east", "west"]),
        (SYMBOLS[1], "repaired", 6, 2, ["east", "west"]),
        (SYMBOLS[0], "refilled", 3, 1, ["east", "west"]),
    ]
    for row in found:
        told = [each.time_ms for each in store.gaps if each.gap == row["gap"]]
        settled = [each.time_ms for each in store.gaps if each.gap == row["gap"] and each.state == row["state"]]
        assert [_time(row[name]).timestamp() * 1000 for name in ("found_time", "settled_time")] == [min(told), max(settled)]


def test_data_age(store: Market) -> None:
    """The newest time of each table that holds anything, and nothing of the others."""
    found = {row["name"]: _time(row["newest"]).timestamp() * 1000 for row in store.ask("data_age")}
    assert found == {
        "windows": START_MS + WINDOWS_MS + 500,
        "candles": max(each.open_time_ms for each in store.candles),
        "indicators": max(each.open_time_ms for each in store.indicators),
        "signals": max(each.open_time_ms for each in store.signals),
    }


def test_dead_lines_report(store: Market) -> None:
    """Each reason, how often it was given, and what such a line begins with."""
    found = store.ask("dead_lines_report")
    assert [(row["topic"], row["reason"], row["lines"]) for row in found] == [
        ("crypto_pipeline_events", "component: expected text", 2),
        ("crypto_pipeline_events", "not JSON", 1),
    ]
    assert found[0]["begins"] == "{}"


def test_every_query_is_tested() -> None:
    """Each file of queries/ has a test of its name here."""
    tests = Path(__file__).read_text()
    assert not [file.stem for file in QUERIES.glob("*.sql") if f'ask("{file.stem}"' not in tests]
