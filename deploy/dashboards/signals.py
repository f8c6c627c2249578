"""Signals: what to buy and what to sell, when it was said, and how often."""

from deploy.dashboards.board import GREEN, RED, TO_MARKET, Board, Override, bars, number, row, rows
from deploy.dashboards.market import SYMBOLS
from deploy.dashboards.queries import Choice, Shape, Sql
from klinestream.market.intervals import INTERVALS
from klinestream.market.signals import EMA_CROSS, MACD_CROSS, RSI

_LISTED = 500
# A signal is known when its candle has closed, but stands in the partition of when that opened: a day before at most.
_OF_TIME = """$__timeFilter(close_time)
      AND open_time BETWEEN $__timeFrom()::timestamptz - interval '1 day' AND $__timeTo()"""
_CHOSEN = f"symbol IN ($symbol) AND interval IN ($interval) AND rule IN ($rule)\n      AND {_OF_TIME}"
_INTERVALS = f"SELECT unnest(ARRAY[{', '.join(map(repr, INTERVALS))}])"
_RULES = f"SELECT unnest(ARRAY[{', '.join(map(repr, (RSI, MACD_CROSS, EMA_CROSS)))}])"
_COUNTS = f"""
    SELECT count(*) FILTER (WHERE state = 'fired' AND side = 'buy') AS buys,
           count(*) FILTER (WHERE state = 'fired' AND side = 'sell') AS sells,
           count(*) FILTER (WHERE state = 'withdrawn') AS withdrawn,
           count(DISTINCT symbol) FILTER (WHERE state = 'fired') AS symbols
    FROM klinestream.signals WHERE {_CHOSEN}
"""
_BY_RULE = f"""
    SELECT rule, side, count(*) AS signals, max(close_time) AS newest
    FROM klinestream.signals WHERE {_CHOSEN} AND state = 'fired' GROUP BY rule, side ORDER BY rule, side
"""


def _list(condition: str) -> Sql:
    return Sql(
        f"""
    SELECT close_time AS time, symbol, interval, rule, side, price, value, threshold, reason
    FROM klinestream.signals WHERE {_CHOSEN} AND {condition}
    ORDER BY close_time DESC, symbol, interval, rule LIMIT {_LISTED}
    """,
        Shape.TABLE,
    )


def _by_day(metric: str) -> Sql:
    return Sql(
        f"""
    SELECT $__timeGroupAlias(close_time, 1d), {metric} AS metric, count(*) AS signals
    FROM klinestream.signals WHERE {_CHOSEN} AND state = 'fired' GROUP BY 1, 2 ORDER BY 1, 2
    """
    )


def board() -> Board:
    """As Grafana shows it first: seven days of all signals."""
    found = Board("klinestream-signals", "Signals", "Buy and sell signals of closed candles.", since="now-7d", refresh="10s")
    found.variables(
        Choice("symbol", "Symbol", SYMBOLS).several("symbol"),
        Choice("interval", "Interval", _INTERVALS).several("interval"),
        Choice("rule", "Rule", _RULES).several("rule"),
    )
    sides: list[Override] = [(side, {"color": {"mode": "fixed", "fixedColor": color}}) for side, color in (("buy", GREEN), ("sell", RED))]
    when: list[Override] = [("newest", {"unit": "dateTimeAsIso"})]
    newest = f"The newest {_LISTED}, by when their candles closed."
    found.add(
        number(
            "In this time",
            "Signals that stand, those that were withdrawn, and symbols with any.",
            Sql(_COUNTS, Shape.TABLE),
            unit="none",
            width=12,
        ),
        rows("By rule", "Signals that stand.", Sql(_BY_RULE, Shape.TABLE), width=12, height=4, overrides=when),
        rows("Buy", newest, _list("state = 'fired' AND side = 'buy'"), width=12, height=12, overrides=[TO_MARKET]),
        rows("Sell", newest, _list("state = 'fired' AND side = 'sell'"), width=12, height=12, overrides=[TO_MARKET]),
        bars("A day, by side", "Days of UTC, by when candles closed.", [_by_day("side")], unit="none", overrides=sides),
        bars("A day, by rule", "Days of UTC, by when candles closed.", [_by_day("rule")], unit="none"),
        row("Withdrawn: a repair removed their ground"),
    )
    return found.add(rows("Withdrawn", newest, _list("state = 'withdrawn'"), height=6, overrides=[TO_MARKET]))
