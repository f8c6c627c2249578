"""Klines of the seeded market as records of `crypto_kline_data`, many at once."""

from collections.abc import Iterator

from klinestream.market import decimals
from klinestream.market.events import SECOND_MS
from klinestream.standin.seeded.market import SeededMarket

SYMBOLS = 1400
SEED = 1
_COLUMNS = ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")


def lines(start_ms: int, seconds: int, symbols: int = SYMBOLS) -> Iterator[tuple[str, int, bytes]]:
    """(symbol, close time, line), second by second."""
    market = SeededMarket(SEED, symbols)
    for first in range(0, seconds, 60):
        found = market.seconds(start_ms + first * SECOND_MS, min(60, seconds - first))
        decimal = [[list(map(decimals.show, row)) for row in getattr(found, name).tolist()] for name in _COLUMNS]
        whole = [getattr(found, name).tolist() for name in ("trades", "first_trade_id", "last_trade_id")]
        for at, opened in enumerate(found.open_time_ms.tolist()):
            for number, symbol in enumerate(found.symbols):
                o, h, low, c, v, q, taker_v, taker_q = (column[at][number] for column in decimal)
                n, f, last = (column[at][number] for column in whole)
                closed = opened + SECOND_MS - 1
                yield (
                    symbol,
                    closed,
                    f'{{"s":"{symbol}","i":"1s","t":{opened},"T":{closed},"o":"{o}","h":"{h}","l":"{low}","c":"{c}","v":"{v}","q":"{q}",'
                    f'"V":"{taker_v}","Q":"{taker_q}","n":{n},"f":{f},"L":{last},"last_trade_id":{last},"origin":"live",'
                    f'"source":"binance","proof":"ids"}}'.encode(),
                )
