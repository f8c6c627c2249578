"""`klinestream watch`: a symbol's records as they come, in a table that moves, or as lines."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klinestream.market.kinds import RecordKind
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from rich.table import Table

    from klinestream.client import Batch

ROWS_MOST = 200
"""Series in the table: more don't fit on a screen; lines show all."""
_ANY_HOST = ("0.0.0.0", "::", "")  # noqa: S104  # where a server may listen, not where one does
_COLUMNS = ("symbol", "kind", "interval", "time (UTC)", "close", "")


def watch(
    ctx: typer.Context,
    symbols: Annotated[
        list[str],
        typer.Argument(
            metavar="[KIND] SYMBOL", help="Symbols, or patterns with * and ? in quotes, such as '*USDT'; kinds may stand before."
        ),
    ],
    *,
    kinds: Annotated[list[RecordKind] | None, typer.Option("--kind", help="What to watch, windows by default; may be repeated.")] = None,
    intervals: Annotated[
        list[str] | None, typer.Option("--interval", help="Of candles, indicators and signals, 1m by default; may be repeated.")
    ] = None,
    server: Annotated[str, typer.Option(help="The server's address; by default the one that this configuration makes.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a record, as in the topic, with its kind.")] = False,
    no_table: Annotated[bool, typer.Option("--no-table", help="A line a record; so it is where the output is no terminal.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many records that are there already are shown first.")] = 1,
    count: Annotated[int, typer.Option(min=0, help="End after so many records; 0 for never.")] = 0,
) -> None:
    """Watch symbols live, through a server that runs. It reconnects by itself, and goes on where it was. Ctrl-C ends it."""
    from klinestream.client import follow

    say = _Said()
    before, names = parted(symbols)
    batches = follow(
        [name.upper() for name in names],
        [kind.value for kind in [*before, *(kinds or ())] or [RecordKind.WINDOWS]],
        intervals or ["1m"],
        limit=limit,
        url=server or _address(ctx.obj),
        token=_token(ctx.obj, elsewhere=bool(server)),
        told=say,
    )
    found = ((batch, record) for batch in batches for record in batch.records)
    try:
        _show(islice(found, count or None), say, as_json=as_json, no_table=no_table)
    except KeyboardInterrupt:
        return


def parted(words: Sequence[str]) -> tuple[list[RecordKind], list[str]]:
    """Kinds that stand before the symbols, in lower case, and the symbols; the last word is one.

    >>> parted(["books", "btcusdt"]), parted(["BOOKS"])
    (([<RecordKind.BOOKS: 'books'>], ['btcusdt']), ([], ['BOOKS']))
    """
    count = 0
    while count < len(words) - 1 and words[count] in tuple(RecordKind):
        count += 1
    return [RecordKind(word) for word in words[:count]], list(words[count:])


class _Said:
    """What happened to the connection last."""

    def __init__(self) -> None:
        self.text = "connecting"
        self.through: Callable[[str], None] = lambda _: None

    def __call__(self, text: str) -> None:
        self.text = text
        self.through(text)


def _address(config: Config) -> str:
    host = "localhost" if config.server.host in _ANY_HOST else config.server.host
    return f"http://[{host}]:{config.server.port}" if ":" in host else f"http://{host}:{config.server.port}"


def _token(config: Config, *, elsewhere: bool) -> str:
    """The client's own; else, for the server of this configuration alone, one that it knows."""
    own = config.client.token.get_secret_value()
    return own or next(iter(() if elsewhere else config.server.accepted_tokens), "")


def _show(found: Iterable[tuple["Batch", dict[str, Any]]], said: _Said, *, as_json: bool, no_table: bool) -> None:
    import sys

    if not (as_json or no_table) and sys.stdout.isatty():
        _move(found, said)
        return
    said.through = lambda text: typer.echo(text, err=True)
    for batch, record in found:
        typer.echo(_json(batch, record) if as_json else line(batch, record))


def _json(batch: "Batch", record: dict[str, Any]) -> bytes:
    import orjson

    return orjson.dumps({"kind": batch.kind} | record)


def line(batch: "Batch", record: dict[str, Any]) -> str:
    """A record as a line: symbol, kind, interval if any, time, close and the rest."""
    return "  ".join(cell for cell in cells(batch, record) if cell)


def cells(batch: "Batch", record: dict[str, Any]) -> tuple[str, ...]:
    """A record as the cells of a row, each safe to print."""
    time_ms, close, rest = _TOLD[batch.kind](record)
    at = datetime.fromtimestamp(time_ms / 1000, UTC)
    shown = f"{at:%m-%d %H:%M:%S}.{at.microsecond // 100_000}"
    texts = (batch.symbol, batch.kind, batch.interval, shown, str(close), rest)
    return tuple("".join(letter if letter.isprintable() else "�" for letter in text) for text in texts)


def _move(found: Iterable[tuple["Batch", dict[str, Any]]], said: _Said) -> None:
    from rich.live import Live

    rows: dict[tuple[str, str, str], tuple[str, ...]] = {}
    with Live(_table(rows, said.text), refresh_per_second=8, auto_refresh=True) as live:
        said.through = lambda text: live.update(_table(rows, text))
        for batch, record in found:
            series = (batch.symbol, batch.kind, batch.interval)
            if series in rows or len(rows) < ROWS_MOST:
                rows[series] = cells(batch, record)
            live.update(_table(rows, said.text))


def _table(rows: dict[tuple[str, str, str], tuple[str, ...]], caption: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(caption=Text(caption))
    for column in _COLUMNS:
        table.add_column(column, no_wrap=bool(column), overflow="fold")
    for series in sorted(rows):
        table.add_row(*map(Text, rows[series]))
    return table


def _window(record: dict[str, Any]) -> tuple[int, Any, str]:
    rsi = "" if record["rsi"] is None else f"  RSI {record['rsi']:.2f}{'' if record['rsi_ready'] else ' (not ready)'}"
    # A window over trades may have none.
    average = "none" if record["average_price"] is None else f"{record['average_price']:.10g}"
    return record["window_end"], record["close"], f"average {average}  volume {record['volume']:.6g}{rsi}"


def _candle(record: dict[str, Any]) -> tuple[int, Any, str]:
    whole = "" if record["complete"] else "  incomplete"
    return record["t"], record["c"], f"open {record['o']}  high {record['h']}  low {record['l']}  volume {record['v']}{whole}"


def _in_progress(record: dict[str, Any]) -> tuple[int, Any, str]:
    rows = record["candles"]
    close = next((row[3] for row in rows.values()), "")
    return record["T"], close, "  ".join(f"{interval} {row[0]:.10g}→{row[3]:.10g}" for interval, row in rows.items())


def _indicator(record: dict[str, Any]) -> tuple[int, Any, str]:
    values = ((name, value) for name, value in record["values"].items() if value is not None)
    return record["t"], record["c"], "  ".join(_valued(values, set(record["unready"])))


def _valued(values: Iterable[tuple[str, float]], unready: set[str]) -> Iterator[str]:
    for name, value in values:
        yield f"{name} {value:.6g}{' (not ready)' if name in unready else ''}"


def _signal(record: dict[str, Any]) -> tuple[int, Any, str]:
    withdrawn = "" if record["state"] == "fired" else f"  {record['state']}"
    return record["t"], record["price"], f"{record['side']}: {record['reason']}{withdrawn}"


def _book(record: dict[str, Any]) -> tuple[int, Any, str]:
    bid, ask = (f"{side[0][0]} × {side[0][1]}" if side else "none" for side in (record["bids"], record["asks"]))
    told = {"spread": "spread", "imbalance": "imbalance", "imbalance_20": "of 20"}
    rest = (f"{word} {record[name]:.6g}" for name, word in told.items() if record[name] is not None)
    return record["E"], "" if record["mid"] is None else record["mid"], "  ".join((f"bid {bid}", f"ask {ask}", *rest))


_TOLD: dict[str, Callable[[dict[str, Any]], tuple[int, Any, str]]] = {
    "windows": _window,
    "candles": _candle,
    "provisional": _in_progress,
    "indicators": _indicator,
    "signals": _signal,
    "books": _book,
}
