"""The windows job: `crypto_kline_data` in, `crypto_data_aggregated` out.

    Kafka, raw bytes ─► SQL: a batch a partition, every few ms ─► Parse ─► key by partition ─► Windows (the engine)
    Kafka, raw text  ◄─ SQL: a line a record                   ◄────────── blocks of text ◄──────────┘

Submitted by `klinestream job windows`, or by `flink run -py jobs/windows.py` on any cluster whose Python has klinestream.
"""

from pyflink.common import Types

from jobs.dataflow import Dataflow, run
from jobs.operators import BLOCK, PARSED, Parse, Windows
from klinestream.market.topics import DEAD_LETTERS, KLINE_REPAIRS, KLINES, LATE_DATA, PIPELINE_EVENTS, WINDOWS
from klinestream.market.windows import WindowSettings
from klinestream.runtime.config import Config

NAME = "klinestream windows"
GROUP = "klinestream-windows"
OUTPUTS = (WINDOWS, DEAD_LETTERS, LATE_DATA, KLINE_REPAIRS, PIPELINE_EVENTS)


def build(config: Config, partitions: int) -> None:
    """Build the job and submit it."""
    settings = config.windows
    flow = Dataflow(config, settings, NAME, GROUP)
    engine = WindowSettings(settings.size_ms, settings.slide_ms, settings.rsi_period, settings.remembered_s)
    blocks = (
        flow.batches(KLINES, settings.batch_ms, settings.start)
        .map(Parse(partitions), PARSED)
        .name("parse")
        .uid("parse")
        .key_by(lambda parsed: parsed[0], Types.INT())
        .process(Windows(engine), BLOCK)
        .name("windows")
        .uid("windows")
    )
    flow.publish(blocks, OUTPUTS)


if __name__ == "__main__":
    run(build, "The windows job of klinestream.", GROUP)
