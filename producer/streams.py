"""Streams by their names, and the requests that ask for them."""

from collections.abc import Iterable

import orjson

from klinestream.market.events import KLINE_INTERVAL

# A SUBSCRIBE of more than about 4,096 bytes goes unanswered; some room for the frame around it.
REQUEST_BYTES_MOST = 4000


def stream_name(symbol: str) -> str:
    """The exchange's name for a symbol's 1 s klines.

    >>> stream_name("BTCUSDT")
    'btcusdt@kline_1s'
    """
    return f"{symbol.lower()}@kline_{KLINE_INTERVAL}"


def streams_url(base: str) -> str:
    """Where many streams share a connection.

    >>> streams_url("wss://data-stream.binance.vision/")
    'wss://data-stream.binance.vision/stream'
    """
    return base.rstrip("/") + "/stream"


def requests(method: str, streams: Iterable[str], first_id: int = 1) -> list[tuple[int, bytes]]:
    """SUBSCRIBE or UNSUBSCRIBE requests for these streams, each with its id and short enough to be answered.

    >>> requests("SUBSCRIBE", ["btcusdt@kline_1s"], 7)
    [(7, b'{"method":"SUBSCRIBE","params":["btcusdt@kline_1s"],"id":7}')]
    """
    batches: list[list[str]] = []
    room = 0
    for stream in streams:
        needed = len(orjson.dumps(stream)) + 1
        if not batches or needed > room:
            batches.append([])
            room = REQUEST_BYTES_MOST - len(_request(method, [], first_id + len(batches)))
        batches[-1].append(stream)
        room -= needed
    return [(number, _request(method, batch, number)) for number, batch in enumerate(batches, first_id)]


def _request(method: str, streams: list[str], number: int) -> bytes:
    return orjson.dumps({"method": method, "params": streams, "id": number})
