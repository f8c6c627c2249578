"""Binance's 1 s klines: how they are asked for. What becomes of them decides `producer.feed`, by seconds instead of ids."""

from collections.abc import Mapping, Sequence

from klinestream.runtime.sections import ExchangeConfig
from producer.dialect import Manners, Taker
from producer.frames import Reply, Shutdown
from producer.streams import requests, stream_name, streams_url


class Klines:
    """The dialect of the connections of one partition's klines."""

    def __init__(self, exchange: ExchangeConfig, taker: Taker) -> None:
        """`taker` follows the symbols already."""
        self.manners = Manners(streams_url(exchange.websocket_url), streams_url(exchange.fallback_websocket_url))
        self._taker = taker

    def requests(self, method: str, symbols: Sequence[str], first_id: int) -> list[tuple[int | None, bytes]]:
        """One request for many streams, each answered."""
        return list(requests(method, map(stream_name, symbols), first_id))

    def interrupted(self) -> None:
        """The next kline tells what is missing."""

    def take(self, raw: bytes, proved: set[str]) -> Reply | Shutdown | None:
        """See `Taker.take`."""
        return self._taker.take(raw, proved)

    def ages_s(self) -> Mapping[str, float]:
        """Symbol → seconds since the close of its newest published kline."""
        return self._taker.ages_s()
