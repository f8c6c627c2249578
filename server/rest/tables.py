"""Windows, candles, indicators, signals, order books and gaps as tables, with the names that they have in their topics. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from klinestream.market.decimals import UNIT
from klinestream.market.events import FeedGap, Indicators, Kind, OrderBook, Signal, Window, wire_fields
from klinestream.market.intervals import INTERVALS
from klinestream.market.ledger import Gap
from server.books.records import FEATURES
from server.candles.rows import ORIGINS, PRICES, UNKNOWN_ID, VOLUMES, Rows
from server.rest.columns import Table, Type
from server.rest.query import Format

_TYPES: Mapping[Kind, Type] = {
    Kind.TEXT: Type.TEXT,
    Kind.NOTE: Type.TEXT,
    Kind.TIME_MS: Type.INTEGER,
    Kind.COUNT: Type.INTEGER,
    Kind.TRADE_ID: Type.INTEGER,
    Kind.NUMBER: Type.NUMBER,
    Kind.FLAG: Type.FLAG,
}


def encoded(table: Table, form: Format, head: Mapping[str, Any], name: str) -> bytes:
    """A table in a format: JSON has `head`, the rows under `name`; CSV and Arrow are the columns alone."""
    if form is Format.JSON:
        return orjson.dumps({**head, name: _records(table) if table.records is None else table.records()})
    from server.rest import frames  # noqa: PLC0415  # polars, which most servers never need

    return frames.csv(table) if form is Format.CSV else frames.arrow(table)


def _records(table: Table) -> list[dict[str, Any]]:
    names = tuple(table.columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*table.columns.values(), strict=True)]


def windows(values: Sequence[bytes], event: type[Any] = Window) -> Table:
    """Windows of either kind, as they stand in the topic."""
    names = tuple(wire_fields(event))
    found = [orjson.loads(value) for value in values]
    columns = {name: [window[name] for window in found] for name in names}
    return Table(columns, _types(event, names), lambda: [orjson.Fragment(value) for value in values])


def features(values: Sequence[bytes]) -> Table:
    """Order books without their levels, as they stand in the topic; as columns, each distance's depth is two of them."""
    names = tuple(name for name in FEATURES if name != "depth")
    found = [orjson.loads(value) for value in values]
    columns: dict[str, Sequence[Any]] = {name: [book[name] for book in found] for name in names}
    types = dict(_types(OrderBook, names))
    for band in sorted({band for book in found for band in book["depth"]}, key=int):
        for place, side in enumerate(("bid", "ask")):
            columns[f"{side}_depth_{band}"] = [book["depth"][band][place] if band in book["depth"] else None for book in found]
            types[f"{side}_depth_{band}"] = Type.NUMBER
    return Table(columns, types, lambda: [orjson.Fragment(value) for value in values])


def candles(symbol: str, interval: str, rows: Rows) -> Table:
    """Candles; prices and volumes as text with eight decimals."""
    columns: dict[str, Sequence[Any]] = _ids(symbol, interval, rows)
    columns |= {name: [_show(*divmod(price, UNIT)) for price in rows[name].tolist()] for name in PRICES}
    for name in VOLUMES:
        columns[name] = [_show(*parts) for parts in zip(rows[name].tolist(), rows[f"{name}_rest"].tolist(), strict=True)]
    columns["n"] = rows["n"].tolist()
    columns |= {name: [None if i == UNKNOWN_ID else i for i in rows[name].tolist()] for name in ("f", "L")}
    columns |= {name: rows[name].tolist() for name in ("klines", "complete")}
    columns["origin"] = [ORIGINS[code].value for code in rows["origin"].tolist()]
    columns["revision"] = rows["revision"].tolist()
    types = {name: Type.DECIMAL if name in (*PRICES, *VOLUMES) else Type.INTEGER for name in columns}
    return Table(columns, types | {"s": Type.TEXT, "i": Type.TEXT, "complete": Type.FLAG, "origin": Type.TEXT})


def indicators(symbol: str, interval: str, rows: Rows, names: Sequence[str]) -> Table:
    """Indicators: an object a row in JSON, else a column each."""
    values = _without_nan(rows, len(names))
    unready = [[name for place, name in enumerate(names) if bits >> place & 1] for bits in rows["unready"].tolist()]
    ids, closes = _ids(symbol, interval, rows), rows["c"].tolist()
    rest = {name: rows[name].tolist() for name in ("since", "revision")}

    def records() -> list[dict[str, Any]]:
        flat = {**ids, "c": closes, "values": [dict(zip(names, row, strict=True)) for row in values], "unready": unready, **rest}
        return _records(Table(flat, {}))

    by_name = {name: [row[place] for row in values] for place, name in enumerate(names)}
    # CSV has no lists.
    columns = {**ids, "c": closes, **by_name, "unready": [" ".join(each) for each in unready], **rest}
    kinds = _types(Indicators, tuple(ids)) | dict.fromkeys(("c", *names), Type.NUMBER)
    return Table(columns, kinds | {"unready": Type.TEXT, "since": Type.INTEGER, "revision": Type.INTEGER}, records)


def signals(symbol: str, found: Sequence[tuple[str, Any]]) -> Table:
    """Signals, each a row of an interval's series, in the order in which they come."""
    names = tuple(wire_fields(Signal))
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for interval, row in found:
        rule, side, state, reason = (row[name].decode(errors="replace") for name in ("rule", "side", "state", "reason"))
        opened = int(row["t"])
        told = {name: row[name].item() for name in ("t", "price", "value", "limit", "since", "revision")}
        told |= {"id": f"{symbol}:{interval}:{rule}:{side}:{opened}", "s": symbol, "i": interval, "T": opened + INTERVALS[interval] - 1}
        told |= {"side": side, "rule": rule, "state": state, "reason": reason}
        for name in names:
            columns[name].append(told[name])
    return Table(columns, _types(Signal, names))


def gaps(found: Sequence[Gap]) -> Table:
    """Gaps, each the record that counts, with its seconds, and all its producers in place of one."""
    fields = wire_fields(FeedGap)
    names = [name for name in fields if name != "producer"]
    columns: dict[str, Sequence[Any]] = {name: [getattr(gap.record, fields[name].name) for gap in found] for name in names}
    columns["state"] = [str(gap.record.state) for gap in found]
    columns["seconds"] = [gap.record.seconds for gap in found]
    types = _types(FeedGap, names) | {"seconds": Type.INTEGER, "producers": Type.TEXT}
    told = {**columns, "producers": [gap.producers for gap in found]}
    joined = {**columns, "producers": [" ".join(gap.producers) for gap in found]}
    return Table(joined, types, lambda: _records(Table(told, {})))


def _ids(symbol: str, interval: str, rows: Rows) -> dict[str, Sequence[Any]]:
    opened = rows["t"].tolist()
    closed = [t + INTERVALS[interval] - 1 for t in opened]
    return {"s": [symbol] * len(rows), "i": [interval] * len(rows), "t": opened, "T": closed}


def _types(event: type[Any], names: Sequence[str]) -> dict[str, Type]:
    fields = wire_fields(event)
    return {name: _TYPES[fields[name].metadata["kind"]] for name in names}


def _show(whole: int, rest: int) -> str:
    return f"{whole}.{rest:08d}"


def _without_nan(rows: Rows, width: int) -> list[list[float | None]]:
    """Rows of `width` values, None where there is none: a row may be older than the newest names."""
    found = rows["values"].tolist()
    missing: list[float | None] = [None] * (width - rows["values"].shape[1])
    return [[None if value != value else value for value in row] + missing for row in found]  # noqa: PLR0124  # only nan differs from itself
