"""All symbols at once: what each did over the last 24 hours."""

from deploy.dashboards.board import TO_MARKET, Board, Override, number, ranks, rows
from deploy.dashboards.queries import Shape, Sql

_FRESH = "10 minutes"
"""A symbol whose newest aggregate is older at the end of the time shown is left out."""
_MOST = 12
# Each join is one look into the candles' index a symbol. The day's first candle opened 1,439 minutes before its last one.
_DAYS = f"""
    WITH newest AS (
      SELECT DISTINCT ON (symbol) * FROM klinestream.aggregates
      WHERE open_time BETWEEN $__timeTo()::timestamptz - interval '{_FRESH}' AND $__timeTo()
      ORDER BY symbol, open_time DESC
    ), days AS (
      SELECT newest.symbol, newest.close_time AS "as of", last.close AS price, 100 * (last.close / first.open - 1) AS change,
             newest.day_low AS low, newest.day_high AS high, newest.day_volume AS volume,
             newest.day_volume * newest.day_average_close AS "volume x price", newest.day_candles AS minutes
      FROM newest
      JOIN klinestream.candles AS last ON last.symbol = newest.symbol AND last.interval = '1m' AND last.open_time = newest.open_time
        AND last.open_time BETWEEN $__timeTo()::timestamptz - interval '{_FRESH}' AND $__timeTo()
      LEFT JOIN klinestream.candles AS first ON first.symbol = newest.symbol AND first.interval = '1m'
        AND first.open_time = newest.open_time - interval '1439 minutes'
        AND first.open_time BETWEEN $__timeTo()::timestamptz - interval '1 day {_FRESH}'
            AND $__timeTo()::timestamptz - interval '1439 minutes'
    )
"""
_COLUMNS: list[Override] = [
    (
        "change",
        {
            "unit": "percent",
            "decimals": 2,
            "custom.cellOptions": {"type": "color-text"},
            "thresholds": {"mode": "absolute", "steps": [{"color": "red", "value": None}, {"color": "green", "value": 0}]},
        },
    ),
    ("volume.*", {"unit": "short"}),
    TO_MARKET,
]
_COUNTS = f"""{_DAYS}
    SELECT count(*) AS symbols, count(*) FILTER (WHERE change > 0) AS risen, count(*) FILTER (WHERE change < 0) AS fallen,
           count(*) FILTER (WHERE change IS NULL) AS "without a whole day"
    FROM days
"""


def _ranked(order: str) -> Sql:
    return Sql(
        f"{_DAYS}    SELECT symbol, change FROM days WHERE change IS NOT NULL ORDER BY change {order}, symbol LIMIT {_MOST}", Shape.TABLE
    )


def board() -> Board:
    """As Grafana shows it first: the day up to now."""
    found = Board("klinestream-aggregates", "All symbols", "Every symbol over 24 hours.", since="now-24h", refresh="10s")
    table = Sql(f"{_DAYS}    SELECT * FROM days ORDER BY change DESC NULLS LAST, symbol", Shape.TABLE)
    about = "As of the end of the time shown, over the 1,440 minutes before. A click on a column's name sorts by it."
    return found.add(
        number("Symbols", "Those with a candle in the last ten minutes.", Sql(_COUNTS, Shape.TABLE), unit="none", width=24),
        ranks("Up most", "Change of the price in 24 hours.", _ranked("DESC"), unit="percent"),
        ranks("Down most", "Change of the price in 24 hours.", _ranked("ASC"), unit="percent"),
        rows("Symbols over 24 hours", about, table, height=20, overrides=_COLUMNS),
    )
