"""What `klinestream verify replay` prints."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from klinestream.replay.proof.prover import Stretch
    from klinestream.replay.proof.results import Difference

_SHOWN_MOST = 20
_WIDTH_LEAST = 160  # a pipe has no width of its own
_COLUMNS = ("from (UTC)", "to", "symbols", "topic", "records", "equal", "different", "repeats", "not compared", "digest")
_DIFFERENCE = ("topic", "symbol", "interval", "time", "since", "revision", "field", "published", "replayed")


def print_json(stretches: "Sequence[Stretch]") -> None:
    """One JSON object."""
    import orjson

    told = {"equal": not any(one.different for one in stretches), "stretches": [_told(one) for one in stretches]}
    typer.echo(orjson.dumps(told))


def _told(stretch: "Stretch") -> dict[str, Any]:
    return {
        "from": stretch.from_ms,
        "to": stretch.to_ms,
        "topics": {
            topic: {
                "symbols": len(found.symbols),
                "equal": found.equal,
                "different": found.different,
                "repeats": found.repeats,
                "uncompared": found.uncompared,
                "digests": {symbol: f"{digest:016x}" for symbol, digest in sorted(found.digests.items())},
                "differences": [dict(zip(_DIFFERENCE, _row(one), strict=True)) for one in found.differences],
            }
            for topic, found in stretch.topics.items()
        },
    }


def _row(one: "Difference") -> tuple[Any, ...]:
    identity = one.topic, one.symbol, one.interval, one.time_ms, one.since_ms, one.revision
    return *identity, one.field, one.published, one.replayed


def print_report(console: "Console", stretches: "Sequence[Stretch]") -> None:
    """A table by stretch and topic, then what differs."""
    from rich.table import Table

    console.width = max(console.width, _WIDTH_LEAST)
    table = Table(*_COLUMNS)
    for stretch in stretches:
        for topic, found in stretch.topics.items():
            left = ", ".join(f"{count:,} {why}" for why, count in found.uncompared.items())
            counts = (f"{found.equal + found.different:,}", f"{found.equal:,}", f"{found.different:,}", f"{found.repeats:,}")
            digest = f"{sum(found.digests.values()) % 2**64:016x}"
            table.add_row(_shown(stretch.from_ms), _shown(stretch.to_ms), str(len(found.symbols)), topic, *counts, left, digest)
    console.print(table)
    differences = [one for stretch in stretches for found in stretch.topics.values() for one in found.differences]
    if differences:
        named = Table(*_DIFFERENCE)
        for one in differences[:_SHOWN_MOST]:
            row = one.topic, one.symbol, one.interval, _shown(one.time_ms), _shown(one.since_ms), str(one.revision)
            named.add_row(*row, one.field or "(the record)", one.published, one.replayed)
        console.print(named)
    equal, different = sum(one.equal for one in stretches), sum(one.different for one in stretches)
    said = f"{different:,} records differ or are missing" if different else "no difference"
    typer.echo(f"{equal:,} records are what a replay gives, to the last bit; {said}")


def _shown(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
