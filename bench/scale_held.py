"""What the server's store of candles takes of each symbol, once it is full, and how long a kline's frame is: no process is measured."""

import numpy as np
import orjson

from bench.market import lines
from bench.report import Report
from klinestream.market.indicators.catalogue import IndicatorSet
from klinestream.runtime.config import load
from klinestream.runtime.studies import candle_settings
from server.candles.rows import CANDLE
from server.candles.store import CandleStore

_SYMBOLS = 20
_START_MS = 1_790_000_040_000
_OURS = frozenset({"last_trade_id", "origin", "source", "proof"})


def measure(report: Report) -> None:
    """Candles and indicators of every interval, as many as the configuration holds."""
    config = load(None)
    intervals, most = config.candles.intervals, config.server.history_candles
    store = CandleStore(most)
    store.names.learn(IndicatorSet(candle_settings(config).indicators).names)
    for table, dtype in ((store.candles, CANDLE), (store.indicators, store.names.dtype)):
        rows = np.zeros(most, dtype)
        rows["t"] = np.arange(most) * 60_000
        for number in range(_SYMBOLS):
            for interval in intervals:
                table.put(most * [(f"COIN{number}USDT", interval)], rows)
    for what, table in (("candles", store.candles), ("indicators", store.indicators)):
        count, size = table.counts()
        report.row(
            f"server's {what}, full", a_symbol=count // _SYMBOLS, bytes_a_row=size // count, kb_a_symbol=round(size / _SYMBOLS / 1e3, 1)
        )
    _frame(report)


def _frame(report: Report) -> None:
    lengths, quiet = [], 0
    for symbol, closed, line in lines(_START_MS, 60):
        kline = orjson.loads(line) | {"x": True, "B": "0"}
        quiet += not kline["n"]
        data = {"e": "kline", "E": closed + 1, "s": symbol, "k": {name: kline[name] for name in kline if name not in _OURS}}
        lengths.append(len(orjson.dumps({"stream": f"{symbol.lower()}@kline_1s", "data": data})))
    report.row("a kline's frame", bytes=round(sum(lengths) / len(lengths), 1), percent_without_trades=round(100 * quiet / len(lengths)))
