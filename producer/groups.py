"""Which connection carries which symbols: those of a partition together, so that a broken one holds back no other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from klinestream.market.events import KLINE_INTERVAL
from klinestream.market.partitions import partition_of

# A SUBSCRIBE of more than about 4,096 bytes goes unanswered; some room for the frame around it.
REQUEST_BYTES_MOST = 4000


@dataclass(frozen=True, slots=True)
class Group:
    """The symbols of one connection, all of one partition. `name` tells partition and number: 2.0 is the first of partition 2."""

    name: str
    partition: int
    symbols: tuple[str, ...]

    @property
    def streams(self) -> Mapping[str, str]:
        """Stream name → symbol."""
        return {stream_name(symbol): symbol for symbol in self.symbols}


def stream_name(symbol: str) -> str:
    """The exchange's name for a symbol's 1 s klines.

    >>> stream_name("BTCUSDT")
    'btcusdt@kline_1s'
    """
    return f"{symbol.lower()}@kline_{KLINE_INTERVAL}"


def groups(symbols: Iterable[str], partitions: int, streams_most: int) -> list[Group]:
    """Symbols by the partition of their key; several groups where a partition has more than a connection takes.

    >>> [(group.name, group.symbols) for group in groups(["BTCUSDT", "ETHUSDT", "SOLUSDT"], 4, 512)]
    [('1.0', ('ETHUSDT', 'SOLUSDT')), ('2.0', ('BTCUSDT',))]
    """
    members: dict[int, list[str]] = {}
    for symbol in sorted(set(symbols)):
        members.setdefault(partition_of(symbol, partitions), []).append(symbol)
    return [
        Group(f"{partition}.{number}", partition, tuple(held[start : start + streams_most]))
        for partition, held in sorted(members.items())
        for number, start in enumerate(range(0, len(held), streams_most))
    ]


def subscriptions(streams: Iterable[str]) -> list[bytes]:
    """SUBSCRIBE requests for these streams, ids from 1 on, each short enough to be answered.

    >>> subscriptions(["btcusdt@kline_1s"])
    [b'{"method":"SUBSCRIBE","params":["btcusdt@kline_1s"],"id":1}']
    """
    batches: list[list[str]] = []
    room = 0
    for stream in streams:
        needed = len(orjson.dumps(stream)) + 1
        if not batches or needed > room:
            batches.append([])
            room = REQUEST_BYTES_MOST - len(_request([], len(batches)))
        batches[-1].append(stream)
        room -= needed
    return [_request(batch, number) for number, batch in enumerate(batches, 1)]


def _request(streams: list[str], number: int) -> bytes:
    return orjson.dumps({"method": "SUBSCRIBE", "params": streams, "id": number})
