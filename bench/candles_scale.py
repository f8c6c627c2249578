"""How much of everything the benchmark of the candles job takes, and klines for its parts that need no broker."""

from dataclasses import dataclass

from bench.market import SYMBOLS, lines
from klinestream.market.batch import KlineBatch, decode
from klinestream.market.events import SECOND_MS


@dataclass(frozen=True)
class Scale:
    """Symbols in all; ends of a minute to wait for; candles a symbol for the naive job; whether to run live with history too."""

    symbols: int = SYMBOLS
    minutes: int = 3
    candles: int = 100
    with_history: bool = True


def seconds(start_ms: int, count: int, symbols: int) -> list[KlineBatch]:
    """Klines of the seeded market, parsed: a batch a second, a kline a symbol in each."""
    feed = list(lines(start_ms, count, symbols))
    batches = []
    for first in range(0, len(feed), symbols):
        some = feed[first : first + symbols]
        batch, _, bad = decode([line for _, _, line in some], [closed for _, closed, _ in some])
        if bad or len(set(batch.open_times.tolist())) != 1 or batch.open_times[0] != start_ms + first // symbols * SECOND_MS:
            raise AssertionError("expected a clean feed, a kline a symbol a second: the seeded market has changed")
        batches.append(batch)
    return batches
