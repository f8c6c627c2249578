"""What klinestream costs as it grows: by symbols, by clients, by days kept. What docs/scale.md and its model are made from.

`python -m bench scale` measures all of it; `python -m bench.scale live --symbols 700` one part, at one number of symbols, and puts
it in place of what stood in bench/results/scale.json. Each row says when it was taken, since parts may be taken apart.
"""

import os
import tempfile
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from bench import scale_clients, scale_held, scale_live, scale_page, scale_producer, scale_records
from bench.report import RESULTS, Report

NAME = "scale"
SYMBOLS = (50, 200, 700, 1400)


class Part(StrEnum):
    """What can be measured; of the first two only sizes count, so that they may run beside other work."""

    HELD = "held"
    RECORDS = "records"
    PRODUCER = "producer"
    CLIENTS = "clients"
    LIVE = "live"


def measure(report: Report, folder: Path, parts: list[Part] | None = None, symbols: list[int] | None = None) -> None:
    """One part after the other."""
    for part in parts or list(Part):
        first, load = len(report.rows), round(os.getloadavg()[0], 1)
        match part:
            case Part.HELD:
                scale_held.measure(report)
            case Part.RECORDS:
                scale_records.measure(report, folder / part)
            case Part.PRODUCER:
                scale_producer.measure(report, folder / part)
            case Part.CLIENTS:
                scale_clients.measure(report, folder / part)
            case Part.LIVE:
                for count in symbols or SYMBOLS:
                    scale_live.measure(report, folder / f"{part}-{count}", count)
        _date(report.rows[first:], part, load)
    for note in (
        f"live: a minute with one end of a minute in it, after {scale_live.WARM_S:.0f} s; {scale_live.CLIENT}; history off; checkpoints as "
        "configured; memory is the proportional share of each process",
        "live: each job on a Flink cluster of its own, parallelism 1; server without clients; archive of every topic, compacted",
        "clients: the server alone on a core, two windows of each of 1,400 symbols a second, nothing else",
        "records: indicators of 700 symbols that have converged, five minutes of them; those of `live` are mostly null yet",
        "held: what the server's store of candles and indicators takes when it is full, by the arrays' own sizes",
    ):
        report.note(note)


def _date(rows: list[dict[str, Any]], part: Part, load: float) -> None:
    for row in rows:
        row |= {"part": part.value, "taken": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()), "load": load}


def main(
    parts: Annotated[list[Part] | None, typer.Argument(help="What to measure; everything by default.")] = None,
    symbols: Annotated[list[int] | None, typer.Option(min=4, max=5000, help="Numbers of symbols for `live`.")] = None,
) -> None:
    """Measure parts of it, and keep what else there is."""
    report = Report(NAME)
    path = RESULTS / f"{NAME}.json"
    held = orjson.loads(path.read_bytes())["rows"] if path.exists() else []
    with tempfile.TemporaryDirectory(prefix="klinestream-bench-", ignore_cleanup_errors=True) as folder:
        measure(report, Path(folder), parts, symbols)
    anew = {(row["part"], row.get("symbols") if row["part"] == Part.LIVE else None) for row in report.rows}
    report.rows[:0] = [row for row in held if (row["part"], row.get("symbols") if row["part"] == Part.LIVE else None) not in anew]
    report.rows.sort(key=lambda row: (list(Part).index(Part(row["part"])), row.get("symbols", 0) if row["part"] == Part.LIVE else 0))
    report.write()
    scale_page.main()


if __name__ == "__main__":
    typer.run(main)
