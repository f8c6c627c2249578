"""`klinestream verify`: whether what was published is what the exchange says."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config
from klinestream.runtime.times import time_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from klinestream.runtime.feed_check import Findings, Published, Span

app = typer.Typer(help="Whether what was published is what the exchange says.", no_args_is_help=True)

_MINUTE_MS = 60_000
_SECOND_MS = 1000
_MINUTES_MOST = 1440  # the topic keeps a day
_SETTLE_S = 10.0  # what is younger may be on its way, or be held
_SHOWN_MOST = 20
_WIDTH_LEAST = 120  # a pipe has no width of its own


@app.callback()
def verify() -> None:
    """Whether what was published is what the exchange says."""


@app.command()
def feed(
    ctx: typer.Context,
    symbols: Annotated[str, typer.Option(help="Only these symbols, comma separated; all that are followed by default.")] = "",
    minutes: Annotated[int, typer.Option(help="So many minutes up to ten seconds or so ago.", min=1, max=_MINUTES_MOST)] = 5,
    trades: Annotated[bool, typer.Option(help="Also build each kline from the exchange's trades, and compare with that.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in place of the report.")] = False,
) -> None:
    """Compare the published 1 s klines with the exchange's REST klines and trades.

    Exit code 1 if a field differs, if a second is missing that the ledger of gaps doesn't explain, or if the exchange could not be asked.
    """
    # `klinestream --help` must not wait for Kafka's client to load.
    import time

    from klinestream.runtime import log
    from klinestream.runtime.feed_check import check_size

    config: Config = ctx.obj
    log.setup(config.log)
    now_ms = time.time_ns() // 1_000_000
    to_ms = (now_ms - round(1000 * max(_SETTLE_S, config.producer.hold_s + 5))) // _SECOND_MS * _SECOND_MS
    span = to_ms - minutes * _MINUTE_MS, to_ms
    named = _named(symbols)
    with _progress() as (progress, console):
        followed = named or _followed(config)
        check_size(len(followed), span)
        published, found = _check_all(config, followed, span, trades=trades, progress=progress)
    if as_json:
        _print_json(followed, span, published, found)
    else:
        _print_report(console, followed, span, published, found)
    if not found.sound:
        raise typer.Exit(1)


@app.command()
def candles(
    ctx: typer.Context,
    symbols: Annotated[str, typer.Option(help="Only these symbols, comma separated; all that are followed by default.")] = "",
    since: Annotated[str, typer.Option(help="Candles that closed after this: a time (UTC), or 2h for two hours ago; s, m, h, d.")] = "2h",
    interval: Annotated[str, typer.Option(help="Only this interval: 1m, 5m, 15m, 30m, 1h, 4h or 1d.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in place of the report.")] = False,
) -> None:
    """Compare the candles that were built from 1 s klines, and are complete, with the exchange's own: every field.

    Exit code 1 if a field differs, if the exchange could not be asked for all of them, or if there is none.
    """
    import time

    from klinestream.cli.verify_candles import check_all, print_json, print_report
    from klinestream.market.intervals import INTERVALS
    from klinestream.runtime import log
    from klinestream.runtime.times import time_of

    config: Config = ctx.obj
    log.setup(config.log)
    if interval and interval not in INTERVALS:
        raise ConfigError(f"--interval: expected one of {', '.join(INTERVALS)}, got {interval!r}")
    now_ms = time.time_ns() // 1_000_000
    span = time_of(since, now_ms), now_ms - round(1000 * _SETTLE_S)
    named = _named(symbols)
    with _progress() as (progress, console):
        followed = named or _followed(config)
        built, found = check_all(config, followed, [interval] if interval else list(INTERVALS), span, progress)
    if as_json:
        print_json(followed, span, built, found)
    else:
        print_report(console, followed, span, built, found)
    if not found.sound:
        raise typer.Exit(1)


@app.command()
def replay(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    symbols: Annotated[str, typer.Option(help="Only these symbols, comma separated; all by default.")] = "",
    from_: Annotated[str, typer.Option("--from", help="A time such as 2026-11-21T09:30 (UTC), or 2h for two hours ago.")] = "",
    to: Annotated[str, typer.Option(help="The same; by default up to what the archive is done with.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and prove each stretch as the archive completes it.")] = False,
) -> None:
    """Prove that archived windows, candles and indicators are what a replay gives, to the last bit; exit code 1 if any isn't."""
    # `klinestream --help` must not wait for Arrow to load.
    from rich.console import Console

    from klinestream.cli import verify_replay
    from klinestream.replay.proof import run as proofs
    from klinestream.runtime import log

    config: Config = ctx.obj
    log.setup(config.log)
    if follow:
        if symbols or from_ or to or as_json:
            raise ConfigError("--follow: expected no --symbols, --from, --to or --json with it; it proves all, and tells by its metrics")
        proofs.run(config)
        return
    proof = proofs.Proof.of(config, frozenset(name.strip().upper() for name in symbols.split(",") if name.strip()))
    now_ms = time.time_ns() // 1_000_000
    begin, end = (time_of(text, now_ms) if text else None for text in (from_, to))
    length_ms, after_ms = proof.snapshots.stretch_ms, int(config.proof.after_s * _SECOND_MS)
    console, found = Console(), []
    with Console(stderr=True).status("replaying") as status:
        for span in proofs.chosen(proof.prover.files, begin, end, length_ms, after_ms):
            status.update(f"replaying {_shown(span[0])} to {_shown(span[1])}")
            found.append(proof.one(span))
    if not found:
        raise ConfigError(
            f"expected a whole stretch of {config.proof.stretch_s} s in the archive, found none: set proof.stretch_s, or wait"
        )
    verify_replay.print_json(found) if as_json else verify_replay.print_report(console, found)
    if any(one.different for one in found):
        raise typer.Exit(1)


def _named(text: str) -> list[str]:
    from klinestream.market.selection import is_pattern
    from klinestream.runtime.symbol_lists import checked_name

    names = list(dict.fromkeys(checked_name(name, "--symbols") for name in text.split(",") if name.strip()))
    patterns = [name for name in names if is_pattern(name)]
    if patterns:
        raise ConfigError(f"--symbols: expected names of symbols, got the patterns {', '.join(patterns)}")
    return names


def _followed(config: Config) -> list[str]:
    """All that the configuration and the control topic want, and that trades."""
    from klinestream.runtime.control import ControlLog
    from klinestream.runtime.rest import Rest
    from klinestream.runtime.symbol_lists import configured

    with ControlLog(config.kafka) as control:
        said = control.read()
    with Rest(config.exchange) as rest:
        chosen = configured(config.exchange).chosen(rest.statuses(), said).symbols
    if not chosen:
        raise ConfigError("expected symbols that are followed, but none is: check exchange.symbols and `klinestream symbols list`")
    return list(chosen)


@contextmanager
def _progress() -> "Iterator[tuple[Progress, Console]]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress, Console()


def _check_all(config: Config, symbols: Sequence[str], span: "Span", *, trades: bool, progress: "Progress") -> "tuple[Published, Findings]":
    from klinestream.runtime.feed_check import Findings, check, known_gaps, read_published
    from klinestream.runtime.gap_ledger import read_ledger
    from klinestream.runtime.rest import Rest
    from klinestream.runtime.weights import Weights

    published = read_published(config.kafka, symbols, span, _told(progress, "reading the topic", "klines"))
    known = known_gaps(read_ledger(config.kafka))
    found = Findings()
    asking = progress.add_task("asking the exchange, within its limits", total=len(symbols))
    with Rest(config.exchange, Weights(config.exchange.weight_per_minute)) as rest:
        for symbol in symbols:
            found.add(check(rest, symbol, published.klines(symbol), span, known.get(symbol, ()), trades=trades))
            published.values.pop(symbol, None)
            progress.advance(asking)
    return published, found


def _told(progress: "Progress", what: str, of: str) -> Callable[[int, int], None]:
    task = progress.add_task(f"{what}, {of}", total=None)

    def told(done: int, total: int) -> None:
        if done % 1000 == 0 or done == total:
            progress.update(task, completed=done, total=total)

    return told


def _print_json(symbols: Sequence[str], span: "Span", published: "Published", found: "Findings") -> None:
    import orjson

    fields = [{"field": field, "against": against, "count": count} for (field, against), count in sorted(found.fields.items())]
    told: dict[str, Any] = {
        "sound": found.sound,
        "from": span[0],
        "to": span[1],
        "symbols": len(symbols),
        "klines": found.klines,
        "repeats": found.repeats,
        "unusable": published.unusable,
        "checked": {against.value: count for against, count in found.checked.items()},
        "mismatches_by_field": fields,
        "mismatches": [
            {"s": one.symbol, "t": one.open_time_ms, "field": one.field, "against": one.against}
            | {"published": one.published, "exchange": one.other}
            for one in found.mismatches
        ],
        "missing": [{"s": gap.symbol, "from": gap.from_ms, "to": gap.to_ms, "ledger": gap.word} for gap in found.missing],
        "began": found.began,
        "unchecked": found.unchecked,
    }
    typer.echo(orjson.dumps(told))


def _print_report(console: "Console", symbols: Sequence[str], span: "Span", published: "Published", found: "Findings") -> None:
    console.width = max(console.width, _WIDTH_LEAST)
    _print_mismatches(console, found)
    _print_missing(console, found)
    _print_some([f"{symbol}: not all checked: {reason}" for symbol, reason in found.unchecked.items()])
    _print_some([f"{symbol}: its klines begin at {_shown(began_ms)}" for symbol, began_ms in found.began.items()])
    typer.echo(f"{len(symbols)} symbols from {_shown(span[0])} to {_shown(span[1])} UTC")
    extra = f", {found.repeats} records repeat some" if found.repeats else ""
    unusable = f", {published.unusable} records can't be used" if published.unusable else ""
    typer.echo(f"{found.klines} klines published{extra}{unusable}")
    for against, count in sorted(found.checked.items()):
        wrong = ", ".join(f"{field} {times}" for (field, what), times in sorted(found.fields.items()) if what is against)
        typer.echo(f"{count} checked against the exchange's {against}: {f'mismatches by field: {wrong}' if wrong else 'all equal'}")
    words = Counter[str]()
    for gap in found.missing:
        words[gap.word or "unknown to the ledger"] += gap.seconds
    shown = ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
    typer.echo(f"{words.total()} seconds missing: {shown}" if words else "no second missing")


def _print_mismatches(console: "Console", found: "Findings") -> None:
    from rich.table import Table

    if not found.mismatches:
        return
    table = Table("symbol", "second (UTC)", "field", "against", "published", "the exchange says")
    for one in found.mismatches[:_SHOWN_MOST]:
        table.add_row(one.symbol, _shown(one.open_time_ms), one.field, one.against, one.published, one.other)
    console.print(table)
    left = found.fields.total() - _SHOWN_MOST
    if left > 0:
        typer.echo(f"and {left} further ones")


def _print_missing(console: "Console", found: "Findings") -> None:
    from rich.table import Table

    if not found.missing:
        return
    table = Table("symbol", "missing from (UTC)", "to", "seconds", "the ledger says")
    for gap in found.missing[:_SHOWN_MOST]:
        table.add_row(gap.symbol, _shown(gap.from_ms), _shown(gap.to_ms), str(gap.seconds), gap.word or "nothing")
    console.print(table)
    if len(found.missing) > _SHOWN_MOST:
        typer.echo(f"and {len(found.missing) - _SHOWN_MOST} further spans")


def _print_some(lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN_MOST]:
        typer.echo(line)
    if len(lines) > _SHOWN_MOST:
        typer.echo(f"and {len(lines) - _SHOWN_MOST} further symbols")


def _shown(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
