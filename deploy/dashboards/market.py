"""The market: one symbol's candles with their indicators and signals, and its windows of the last seconds."""

from deploy.dashboards.board import AGE_LIMITS, GREEN, RED, Board, Override, Panel, banded, bars, candles, lines, number, row
from deploy.dashboards.queries import Annotation, Choice, Shape, Sql
from klinestream.market.intervals import INTERVALS
from klinestream.market.signals import SignalSettings

_LIMITS = SignalSettings()
_BANDS = f"{_LIMITS.rsi_low:g} and {_LIMITS.rsi_high:g}"
_BOUGHT: Override = ("bought by takers", {"color": {"mode": "fixed", "fixedColor": GREEN}})
_SOLD: Override = ("sold by takers", {"color": {"mode": "fixed", "fixedColor": RED}})

# One look into the index for each symbol: DISTINCT would read every candle.
SYMBOLS = """
    WITH RECURSIVE found AS (
      (SELECT symbol FROM klinestream.candles ORDER BY symbol LIMIT 1)
      UNION ALL
      SELECT (SELECT symbol FROM klinestream.candles WHERE symbol > found.symbol ORDER BY symbol LIMIT 1)
      FROM found WHERE found.symbol IS NOT NULL
    )
    SELECT symbol FROM found WHERE symbol IS NOT NULL ORDER BY symbol
"""
INTERVALS_OF_SYMBOL = f"""
    SELECT given AS interval FROM unnest(ARRAY[{", ".join(map(repr, INTERVALS))}]) WITH ORDINALITY AS known (given, place)
    WHERE EXISTS (SELECT FROM klinestream.candles WHERE symbol = '$symbol' AND interval = given)
    ORDER BY place
"""
_OF_CANDLES = "symbol = '$symbol' AND interval = '$interval' AND $__timeFilter(open_time)"
_MOST = 5000
"""Candles that are drawn at most: more than a screen has room for, and still quick."""


def _newest(table: str) -> str:
    """The newest rows of the symbol and interval in the time shown, in no order."""
    return f"(SELECT * FROM klinestream.{table} WHERE {_OF_CANDLES} ORDER BY open_time DESC LIMIT {_MOST}) AS {table}"


_PRICE = """
    SELECT close AS price FROM klinestream.windows
    WHERE symbol = '$symbol' AND $__timeFilter(end_time) ORDER BY end_time DESC LIMIT 1
"""
_AGE = """
    SELECT extract(epoch FROM now() - max(end_time)) AS age FROM klinestream.windows
    WHERE symbol = '$symbol' AND end_time > now() - interval '1 day'
"""
# The day's first candle opened 1,439 minutes before its last one.
_DAY = """
    SELECT 100 * (newest.close / first.open - 1) AS change,
           day.day_low AS low, day.day_high AS high, day.day_volume AS volume
    FROM (SELECT * FROM klinestream.aggregates WHERE symbol = '$symbol' AND $__timeFilter(open_time)
          ORDER BY open_time DESC LIMIT 1) AS day
    JOIN klinestream.candles AS newest ON newest.symbol = day.symbol AND newest.interval = '1m' AND newest.open_time = day.open_time
      AND $__timeFilter(newest.open_time)
    LEFT JOIN klinestream.candles AS first ON first.symbol = day.symbol AND first.interval = '1m'
      AND first.open_time = day.open_time - interval '1439 minutes'
      AND first.open_time BETWEEN $__timeFrom()::timestamptz - interval '1 day' AND $__timeTo()
"""
_CANDLES = f"""
    SELECT open_time AS time, open::float8, high::float8, low::float8, close::float8
    FROM {_newest("candles")} ORDER BY open_time
"""
_VOLUME = f"""
    SELECT open_time AS time, taker_base_volume::float8 AS "bought by takers",
           (base_volume - taker_base_volume)::float8 AS "sold by takers"
    FROM {_newest("candles")} ORDER BY open_time
"""


def _indicators(pattern: str) -> str:
    """Whatever indicators of a kind the configuration asks for, each once it has converged."""
    return f"""
    SELECT open_time AS time, reading.key AS metric,
           CASE WHEN reading.key <> ALL (unready) THEN reading.value::float8 END AS value
    FROM {_newest("indicators")} CROSS JOIN LATERAL jsonb_each_text(readings) AS reading
    WHERE reading.key ~ '{pattern}'
    ORDER BY open_time, metric
    """


def _windows(columns: str) -> str:
    """By the second at most: windows that end at .0 and .5 hold the same klines."""
    return f"""
    SELECT $__timeGroupAlias(end_time, $__interval), {columns} FROM klinestream.windows
    WHERE symbol = '$symbol' AND $__timeFilter(end_time) GROUP BY 1 ORDER BY 1
    """


def _marks(side: str) -> str:
    return f"""
    SELECT open_time AS time, side || ', ' || rule || ' at ' || price || ': ' || reason AS text, rule AS tags
    FROM klinestream.signals
    WHERE {_OF_CANDLES} AND state = 'fired' AND side = '{side}'
    ORDER BY open_time
    """


def board() -> Board:
    """As Grafana shows it first: six hours of minutes, refreshed every five seconds."""
    found = Board("klinestream-market", "Market", "One symbol: candles, indicators, signals, windows.", since="now-6h", refresh="5s")
    found.variables(
        Choice("symbol", "Symbol", SYMBOLS).first("BTCUSDT"),
        Choice("interval", "Interval", INTERVALS_OF_SYMBOL).first("1m"),
    )
    found.marks(
        Annotation("Buy signals", _marks("buy"), GREEN),
        Annotation("Sell signals", _marks("sell"), RED),
    )
    overlaid = [Sql(_CANDLES, Shape.TABLE, "A"), Sql(_indicators("^(sma|ema)_"), Shape.SERIES, "B")]
    found.add(
        *_numbers(),
        candles("$symbol, $interval", f"Closed candles with their moving averages: the newest {_MOST:,}.", overlaid),
        *_charts(),
    )
    return found.add(row("Windows: three seconds, one every half second"), *_of_windows())


def _numbers() -> tuple[Panel, ...]:
    units: list[Override] = [("change", {"unit": "percent"}), ("volume", {"unit": "short"})]
    day = "The last 1,440 closed minutes; no change is shown until there are as many."
    return (
        number("Price", "Close of the newest window.", Sql(_PRICE, Shape.TABLE), unit="none", width=5),
        number("24 hours", day, Sql(_DAY, Shape.TABLE), unit="none", width=14, overrides=units),
        number("Data age", "Now less the end of the newest window.", Sql(_AGE, Shape.TABLE), unit="s", width=5, limits=AGE_LIMITS),
    )


def _charts() -> tuple[Panel, ...]:
    limits = [(_LIMITS.rsi_low, "transparent"), (_LIMITS.rsi_high, RED)]
    rsi = lines("RSI", f"Wilder's, with its bands at {_BANDS}.", [Sql(_indicators("^rsi_"))], unit="none")
    histogram: Override = ("/^macd_histogram_/", {"custom.drawStyle": "bars", "custom.fillOpacity": 60, "custom.lineWidth": 0})
    return (
        bars("Volume", "Base volume, by who was the taker.", [Sql(_VOLUME)], unit="short", overrides=[_BOUGHT, _SOLD]),
        lines("Bollinger bands", "With the candles' volume-weighted average price.", [Sql(_indicators("^(bollinger|vwap)_"))], unit="none"),
        banded(rsi.min(0).max(100), limits, below=GREEN),
        lines("MACD", "The line, its signal, and their distance.", [Sql(_indicators("^macd_"))], unit="none", overrides=[histogram]),
    )


def _of_windows() -> tuple[Panel, ...]:
    average, rsi = (
        _windows("avg(average_price) AS average, avg(close) AS close"),
        _windows("avg(CASE WHEN rsi_ready THEN rsi END) AS rsi"),
    )
    limits = [(_LIMITS.rsi_low, "transparent"), (_LIMITS.rsi_high, RED)]
    return (
        lines("Average price", "Of each window, and the close at its end.", [Sql(average)], unit="none").interval("1s"),
        banded(
            lines("RSI of windows", f"Once it has converged; bands at {_BANDS}.", [Sql(rsi)], unit="none").min(0).max(100),
            limits,
            below=GREEN,
        ).interval("1s"),
    )
