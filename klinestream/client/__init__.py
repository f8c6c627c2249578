"""A small client of klinestream's server: history as polars frames, and live records that go on after a broken line.

    from klinestream.client import frame
    candles = frame("BTCUSDT", kind="candles", interval="1m")
    print(candles.select("t", "c", "v").tail())

    from klinestream.client import follow
    for batch in follow(["BTCUSDT"], kinds=["windows"]):
        print(batch.records)

A server that asks for a token is shown the one of KLINESTREAM_CLIENT__TOKEN, or of the argument `token`. What the server sends, and
what it means, stands in docs/websocket.md and docs/rest.md.
"""

from klinestream.client.address import ClientError
from klinestream.client.follow import follow
from klinestream.client.frames import frame
from klinestream.client.session import Batch

__all__ = ["Batch", "ClientError", "follow", "frame"]
