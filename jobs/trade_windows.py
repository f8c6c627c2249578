"""The trade windows job: trades and klines in, windows over trades out.

    crypto_trades     ─► a batch a partition, every few ms ─► ParseTrades ─┐
    crypto_kline_data ─► a batch a partition, every few ms ─► Parse ───────┴─► key by partition ─► TradeWindows (the engine)
    Kafka, raw text   ◄─ SQL: a line a record ◄──────────────── blocks of text ◄─────────────────────────┘

Submitted by `klinestream job trade_windows`, or by `flink run -py jobs/trade_windows.py` on any cluster whose Python has klinestream.
"""

from pyflink.common import Types

from jobs.dataflow import Dataflow, run
from jobs.operators import BLOCK, PARSED, Parse
from jobs.trade_operators import ParseTrades, TradeWindows
from klinestream.market.topics import DEAD_LETTERS, KLINES, PIPELINE_EVENTS, TRADE_WINDOWS, TRADES
from klinestream.market.trade_windows import TradeWindowSettings
from klinestream.runtime.config import Config

NAME = "klinestream trade_windows"
GROUP = "klinestream-trade-windows"
OUTPUTS = (TRADE_WINDOWS, DEAD_LETTERS, PIPELINE_EVENTS)


def build(config: Config, partitions: int) -> None:
    """Build the job and submit it."""
    settings = config.windows
    flow = Dataflow(config, settings, NAME, GROUP)
    trades = (
        flow.batches(TRADES, settings.batch_ms, settings.start)
        .map(ParseTrades(partitions), PARSED)
        .name("parse trades")
        .uid("parse-trades")
        .key_by(lambda parsed: parsed[0], Types.INT())
    )
    klines = (
        flow.batches(KLINES, settings.batch_ms, settings.start)
        .map(Parse(partitions), PARSED)
        .name("parse klines")
        .uid("parse-klines")
        .key_by(lambda parsed: parsed[0], Types.INT())
    )
    engine = TradeWindowSettings(settings.size_ms, settings.slide_ms, settings.rsi_period)
    # Connected, not as one stream: a union would take a Python process of its own before the keys.
    blocks = trades.connect(klines).process(TradeWindows(engine), BLOCK).name("trade windows").uid("trade-windows")
    flow.publish(blocks, OUTPUTS)


if __name__ == "__main__":
    run(build, "The job of windows over trades of klinestream.", GROUP)
