"""Rows a second into ClickHouse by the SQL that we print, and how long the queries take that we show, at ten million rows.

lines ─► read, taken ─► rows              the engine alone, one thread
a topic ─► Kafka table ─► … ─► rows       a real broker, from the first poll until all rows can be seen
10 M candles, 3 M windows ─► queries      one row in a hundred revised, so that FINAL has something to choose
"""

# ruff: noqa: S608  # tables and columns are our own, and an engine of a bench has nothing to lose

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from bench.report import Report
from klinestream.market.events import Kind
from klinestream.market.tables import BY_NAME, Table
from klinestream.stores.clickhouse import script
from klinestream.stores.clickhouse.source import Source
from tests.clickhouse import ClickHouse, made
from tests.eventually import eventually
from tests.stack import TestBroker, broker_with_topics

LINES = 200_000
BROKER_LINES = 300_000
ROWS, REVISED = 10_000_000, 100
WINDOW_ROWS, INDICATOR_ROWS = 3_000_000, 500_000
CANDLE_SYMBOLS, WINDOW_SYMBOLS, INDICATOR_SYMBOLS = 250, 500, 50
TIMES = 5
# Rows come in blocks small enough that what they are computed from finds room.
_BOUNDS = ("max_memory_usage = 2000000000", "max_block_size = 65536", "min_insert_block_size_rows = 262144", "max_insert_threads = 1")
_QUERIES = Path(script.__file__).parent / "queries"
_ZERO = "toDecimal128(0, 8)"
_READINGS = (
    *("sma_20", "sma_50", "ema_12", "ema_26", "rsi_14", "macd_12_26_9", "macd_signal_12_26_9", "macd_histogram_12_26_9"),
    *("bollinger_upper_20_2", "bollinger_middle_20_2", "bollinger_lower_20_2", "atr_14", "vwap_20", "vwap_session", "obv"),
    *("stochastic_k_14_3_3", "stochastic_d_14_3_3", "volatility_20"),
)
# A price that moves a little from row to row, as prices do: what is random through and through neither packs nor is asked for.
_WAVE = "(1000 + number % 97 + 10 * sin(intDiv(number, 250) / 500) + (cityHash64(number) % 1000) / 10000)"


def measure(report: Report, folder: Path) -> None:
    """All three, in an engine each."""
    _from_lines(report, folder / "lines")
    _from_topic(report, folder / "topic")
    _asked(report, folder / "rows")


def _from_lines(report: Report, folder: Path) -> None:
    engine = _started(folder)
    made(script.statements(), engine)
    for name, fields in (("windows", _window()), ("candles", _candle()), ("indicators", _indicators())):
        table, rows = BY_NAME[name], LINES if name != "indicators" else LINES // 4
        engine.run(f"CREATE TABLE default.lines ENGINE = MergeTree ORDER BY () AS SELECT {_line(table, fields)} FROM numbers({rows})")
        seconds = _timed(
            engine,
            f"INSERT INTO klinestream_intake.{name}_topic SELECT raw, '{name}', 0, 0, NULL FROM default.lines SETTINGS max_threads = 1",
        )
        assert int(engine.run(f"SELECT count() FROM klinestream.{name}")) == rows
        size = int(engine.run("SELECT sum(length(raw)) FROM default.lines")) / rows
        engine.run("DROP TABLE default.lines SYNC")
        engine.run(f"OPTIMIZE TABLE klinestream.{name} FINAL")
        report.row(
            f"lines to rows: {name}",
            rows=rows,
            seconds=round(seconds, 2),
            rows_per_s=round(rows / seconds),
            line_bytes=round(size),
            row_bytes=round(_bytes(engine, name) / rows, 1),
        )
    engine.stop()


def _from_topic(report: Report, folder: Path) -> None:
    with broker_with_topics(folder / "broker") as broker:
        engine = _started(folder / "engine")
        _publish(engine, broker)
        began_s = time.perf_counter()
        for statement in script.statements([BY_NAME["windows"]], source=Source(broker=broker.bootstrap_servers)):
            engine.run(statement)
        eventually(lambda: int(engine.run("SELECT count() FROM klinestream.windows")) >= BROKER_LINES, 120, "all rows can be seen")
        seconds = time.perf_counter() - began_s
        report.row("topic to rows: windows", rows=BROKER_LINES, seconds=round(seconds, 2), rows_per_s=round(BROKER_LINES / seconds))
        engine.stop()


def _publish(engine: ClickHouse, broker: TestBroker) -> None:
    """The engine's own producer writes them, faster than ours would."""
    topic = BY_NAME["windows"].topic.name
    settings = f"kafka_broker_list = '{broker.bootstrap_servers}', kafka_topic_list = '{topic}', kafka_group_name = 'bench'"
    engine.run(f"CREATE TABLE default.out (raw String) ENGINE = Kafka SETTINGS {settings}, kafka_format = 'RawBLOB'")
    engine.run(f"INSERT INTO default.out SELECT {_line(BY_NAME['windows'], _window())} FROM numbers({BROKER_LINES})")
    engine.run("DROP TABLE default.out SYNC")


def _asked(report: Report, folder: Path) -> None:
    engine = _started(folder)
    made(script.statements(), engine)
    engine.run("USE klinestream")
    for bound in _BOUNDS:
        engine.run(f"SET {bound}")
    filled = (("candles", ROWS, _candle()), ("windows", WINDOW_ROWS, _window()), ("indicators", INDICATOR_ROWS, _indicators()))
    for name, rows, fields in filled:
        seconds = _fill(engine, BY_NAME[name], fields, rows)
        report.row(
            f"generated: {name}",
            rows=rows,
            seconds=round(seconds, 1),
            rows_per_s=round(rows / seconds),
            row_bytes=round(_bytes(engine, name) / rows, 1),
        )
    for title, name, params in _questions():
        sql = (_QUERIES / f"{name}.sql").read_text()
        taken = []
        for _ in range(1 + TIMES):
            began_s = time.perf_counter()
            answered = len(engine.run(sql.rstrip().rstrip(";"), "TabSeparated", **params).splitlines())
            taken.append((time.perf_counter() - began_s) * 1000)
        report.row(f"query: {title}", rows=answered, first_ms=round(taken[0], 1), median_ms=round(statistics.median(taken[1:]), 1))
    engine.stop()


def _questions() -> Iterator[tuple[str, str, dict[str, object]]]:
    def span(hours: float) -> dict[str, object]:
        now = time.time()
        return {"from": round(now - hours * 3600, 3), "until": round(now, 3)}

    symbol = {"symbol": "COIN7USDT"}
    yield "candles of 15 min over a day, one symbol", "candles_at", span(24) | symbol | {"minutes": 15}
    yield "candles of 4 h over 27 days, one symbol", "candles_at", span(24 * 27) | symbol | {"minutes": 240}
    yield "prices of 3 s over an hour, one symbol", "prices_at", span(1) | symbol | {"seconds": 3}
    yield "top movers of an hour, all symbols", "top_movers", span(1) | {"limit": 20}
    yield "top movers of a day, all symbols", "top_movers", span(24) | {"limit": 20}
    yield "top movers of 27 days, all symbols", "top_movers", span(24 * 27) | {"limit": 20}
    yield "volume leaders of a day, all symbols", "volume_leaders", span(24) | {"quote": "USDT", "limit": 20}
    yield "RSI heat of 6 h, all symbols", "rsi_heat", span(6) | {"interval": "1m", "reading": "rsi_14", "minutes": 5}
    yield "data age, all tables", "data_age", {}


def _started(folder: Path) -> ClickHouse:
    folder.mkdir(parents=True)
    engine = ClickHouse(folder)
    engine.start()
    return engine


def _timed(engine: ClickHouse, sql: str) -> float:
    began_s = time.perf_counter()
    engine.run(sql)
    return time.perf_counter() - began_s


def _bytes(engine: ClickHouse, name: str) -> int:
    return int(engine.run(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'klinestream' AND table = '{name}'"))


def _line(table: Table, fields: dict[str, str]) -> str:
    """A record's JSON, made by the engine from what its columns are to be."""
    parts = [f"'\"{column.wire}\":', {_text(column.kind, fields[column.name])}" for column in table.columns]
    return "concat('{', " + ", ',', ".join(parts) + ", '}') AS raw"


def _text(kind: Kind, value: str) -> str:
    if kind in (Kind.PRICE, Kind.VOLUME):
        return f"'\"', toDecimalString({value}, 8), '\"'"
    return f"toJSONString({value})"


def _fill(engine: ClickHouse, table: Table, fields: dict[str, str], rows: int) -> float:
    """Rows straight into the table, times as they are there; then some of them once more with a higher revision."""
    columns = [column.name for column in table.columns]
    times = {name for name in columns if name.endswith("_time")}

    def insert(numbers: str, revision: str) -> str:
        made_of = fields | {"revision": revision}
        values = [f"fromUnixTimestamp64Milli({made_of[name]}, 'UTC')" if name in times else made_of[name] for name in columns]
        names = ", ".join(f"`{name}`" for name in columns)
        return f"INSERT INTO {table.name} ({names}) SELECT {', '.join(values)} FROM {numbers}"

    seconds = _timed(engine, insert(f"numbers({rows})", "0"))
    engine.run(insert(f"(SELECT number * {REVISED} AS number FROM numbers({rows // REVISED}))", "1"))
    return seconds


def _at(step_ms: int, symbols: int) -> str:
    """A row's time, all symbols at each step, the newest one a step before now."""
    now_ms = time.time_ns() // 1_000_000 // step_ms * step_ms
    return f"toInt64({now_ms} - (1 + intDiv(number, {symbols})) * {step_ms})"


def _symbol(symbols: int) -> str:
    return f"concat('COIN', toString(number % {symbols}), 'USDT')"


def _window() -> dict[str, str]:
    end = _at(500, WINDOW_SYMBOLS)
    return {
        "symbol": _symbol(WINDOW_SYMBOLS),
        "start_time": f"{end} - 3000",
        "end_time": end,
        "close": f"round({_WAVE}, 2)",
        "average_price": f"round({_WAVE}, 2) + (number % 3) / 3",
        "low": f"round({_WAVE}, 2) - 1",
        "high": f"round({_WAVE}, 2) + 1",
        "volume": "(cityHash64(number, 1) % 1000000) / 1000",
        "points": "3",
        "rsi": "50 + 40 * sin(number)",
        "rsi_ready": "true",
        "since_time": "toInt64(1790000000000)",
        "revision": "0",
    }


def _candle() -> dict[str, str]:
    opened = _at(60_000, CANDLE_SYMBOLS)
    # Of integers, which become decimals quickly: ten million rows are to be made, and only their digits matter.
    price = f"toDecimal128(100000 + 7 * (number % {CANDLE_SYMBOLS}) + cityHash64(intDiv(number, {CANDLE_SYMBOLS})) % 1000, 8)"
    volume = "toDecimal128(cityHash64(number) % 10000000, 8)"
    return {
        "symbol": _symbol(CANDLE_SYMBOLS),
        "interval": "'1m'",
        "open_time": opened,
        "close_time": f"{opened} + 59999",
        "open": price,
        "high": f"{price} + toDecimal128(1, 8)",
        "low": f"{price} - toDecimal128(1, 8)",
        "close": price,
        "base_volume": volume,
        "quote_volume": f"{volume} + toDecimal128(7, 8)",
        "taker_base_volume": _ZERO,
        "taker_quote_volume": _ZERO,
        "trades": "number % 500",
        "first_trade_id": "number * 500",
        "last_trade_id": "number * 500 + number % 500",
        "klines": "60",
        "complete": "true",
        "origin": "'built'",
        "revision": "0",
    }


def _indicators() -> dict[str, str]:
    opened = _at(60_000, INDICATOR_SYMBOLS)
    readings = ", ".join(f"'{name}', 50 + 40 * sin(number + {place})" for place, name in enumerate(_READINGS))
    return {
        "symbol": _symbol(INDICATOR_SYMBOLS),
        "interval": "'1m'",
        "open_time": opened,
        "close_time": f"{opened} + 59999",
        "close": f"round({_WAVE}, 2)",
        "readings": f"CAST(map({readings}), 'Map(String, Nullable(Float64))')",
        "unready": "CAST([], 'Array(String)')",
        "since_time": "toInt64(1790000000000)",
        "revision": "0",
    }
