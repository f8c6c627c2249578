"""The candles job: klines and the exchange's own candles in; candles, indicators, signals and aggregates out.

    crypto_kline_data     ─► a batch a partition, every few ms ─► Parse ───────┐
    crypto_candle_history ─► a batch a partition, every 100 ms ► ParseHistory ─┴─► key by partition ─► Candles (the engine)
    Kafka, raw text       ◄─ SQL: a line a record ◄──────────────── blocks of text ◄─────────────────────────┘

Submitted by `klinestream job candles`, or by `flink run -py jobs/candles.py` on any cluster whose Python has klinestream.
"""

from pyflink.common import Types

from jobs.candle_operators import Candles, ParseHistory
from jobs.dataflow import Dataflow, run
from jobs.operators import BLOCK, PARSED, Parse
from klinestream.market.topics import (
    AGGREGATES,
    CANDLE_HISTORY,
    CANDLES,
    DEAD_LETTERS,
    INDICATORS,
    KLINES,
    PIPELINE_EVENTS,
    PROVISIONAL_CANDLES,
    SIGNALS,
)
from klinestream.runtime.config import Config
from klinestream.runtime.studies import candle_settings

NAME = "klinestream candles"
GROUP = "klinestream-candles"
OUTPUTS = (CANDLES, PROVISIONAL_CANDLES, INDICATORS, SIGNALS, AGGREGATES, DEAD_LETTERS, PIPELINE_EVENTS)
# A topic full of history is read at tens of megabytes a second: what a batch gathers has to find room in Flink's memory.
HISTORY_BATCH_MS = 100


def build(config: Config, partitions: int) -> None:
    """Build the job and submit it."""
    settings = config.candles
    flow = Dataflow(config, settings, NAME, GROUP)
    flow.keep_large_state()
    klines = (
        flow.batches(KLINES, settings.batch_ms, settings.start)
        .map(Parse(partitions), PARSED)
        .name("parse")
        .uid("parse")
        .key_by(lambda parsed: parsed[0], Types.INT())
    )
    history = (
        flow.batches(CANDLE_HISTORY, HISTORY_BATCH_MS, "earliest")
        .map(ParseHistory(partitions), PARSED)
        .name("parse history")
        .uid("parse-history")
        .key_by(lambda parsed: parsed[0], Types.INT())
    )
    # Connected, not as one stream: a union would take a Python process of its own before the keys.
    blocks = klines.connect(history).process(Candles(candle_settings(config)), BLOCK).name("candles").uid("candles")
    flow.publish(blocks, OUTPUTS)


if __name__ == "__main__":
    run(build, "The candles job of klinestream.", GROUP)
