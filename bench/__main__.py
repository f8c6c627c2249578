"""`python -m bench [WHAT…]`: measure some of what `What` lists, or all of it."""

import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench import (
    books,
    candles,
    dashboards,
    engine,
    features,
    feed,
    fencing,
    figures,
    footprint,
    footprint_with,
    import_files,
    ingest,
    latency,
    page,
    producer,
    scale,
    scale_page,
    serving,
    store_clickhouse,
    store_postgres,
    throughput,
    trade_windows,
    trades,
)
from bench.report import Report


class What(StrEnum):
    """What can be measured."""

    ENGINE = "engine"
    THROUGHPUT = "throughput"
    LATENCY = "latency"
    PRODUCER = "producer"
    FEED = "feed"
    FENCING = "fencing"
    FOOTPRINT = "footprint"
    FOOTPRINT_WITH = "footprint_with"
    CANDLES = "candles"
    DASHBOARDS = "dashboards"
    PAGE = "page"
    SERVING = "serving"
    FEATURES = "features"
    TRADES = "trades"
    TRADE_WINDOWS = "trade_windows"
    INGEST = "ingest"
    BOOKS = "books"
    IMPORT_FILES = "import_files"
    STORE_CLICKHOUSE = "store_clickhouse"
    STORE_POSTGRES = "store_postgres"
    SCALE = "scale"


MEASURES: dict[What, Callable[[Report, Path], None]] = {
    What.ENGINE: engine.measure,
    What.THROUGHPUT: throughput.measure,
    What.LATENCY: latency.measure,
    What.PRODUCER: producer.measure,
    What.FEED: feed.measure,
    What.FENCING: fencing.measure,
    What.FOOTPRINT: footprint.measure,
    What.FOOTPRINT_WITH: footprint_with.measure,
    What.CANDLES: candles.measure,
    What.DASHBOARDS: dashboards.measure,
    What.PAGE: page.measure,
    What.SERVING: serving.measure,
    What.FEATURES: features.measure,
    What.TRADES: trades.measure,
    What.TRADE_WINDOWS: trade_windows.measure,
    What.INGEST: ingest.measure,
    What.BOOKS: books.measure,
    What.IMPORT_FILES: import_files.measure,
    What.STORE_CLICKHOUSE: store_clickhouse.measure,
    What.STORE_POSTGRES: store_postgres.measure,
    What.SCALE: scale.measure,
}


def main(what: Annotated[list[What] | None, typer.Argument(help="What to measure; everything by default.")] = None) -> None:
    """Measure, print tables, write bench/results/<what>.json, and the pages that show them."""
    for name in what or list(What):
        report = Report(name)
        with tempfile.TemporaryDirectory(prefix="klinestream-bench-", ignore_cleanup_errors=True) as folder:
            MEASURES[name](report, Path(folder))
        report.write()
    figures.main()
    scale_page.main()


if __name__ == "__main__":
    typer.run(main)
