"""A plain server to compare with: `python -m bench.serving_baseline <port> <brokers>`.

It reads the same topic with the same library, and sends the same bytes with `websockets.broadcast`: each message is made once for all
clients of a subscription. That is all it does: no history, no answers from a cursor, no check of records, no bound on what waits for
a client, no metrics.
"""

import asyncio
import sys
import threading
from collections.abc import Sequence

import orjson
from websockets.asyncio.server import ServerConnection, broadcast, serve

from klinestream.market.kinds import RecordKind
from klinestream.market.topics import WINDOWS
from klinestream.runtime.kafka import Record, open_reader
from klinestream.runtime.sections import KafkaConfig
from server.stream import messages
from server.stream.encoding import JSON
from server.stream.messages import Cursor
from server.stream.series import Series


class Plain:
    """Who follows what, and the newest offsets."""

    def __init__(self) -> None:
        self._audiences: dict[tuple[str, ...], set[ServerConnection]] = {}
        self._offsets: dict[int, int] = {}

    async def listen(self, connection: ServerConnection) -> None:
        """Take one subscribe, then wait for the end."""
        symbols = tuple(orjson.loads(await connection.recv())["symbols"])
        self._audiences.setdefault(symbols, set()).add(connection)
        await connection.send('{"type":"subscribed","v":2}')
        try:
            await connection.wait_closed()
        finally:
            self._audiences[symbols].discard(connection)

    def publish(self, records: Sequence[Record]) -> None:
        """Send to each audience what is new of its symbols."""
        values: dict[str, list[bytes]] = {}
        for record in records:
            self._offsets[record.partition] = record.offset + 1
            values.setdefault((record.key or b"").decode(), []).append(record.value or b"")
        parts = {symbol: messages.part(JSON, Series(RecordKind.WINDOWS, symbol), found) for symbol, found in values.items()}
        cursor = Cursor({WINDOWS.name: self._offsets})
        for symbols, connections in self._audiences.items():
            found = [parts[symbol] for symbol in symbols if symbol in parts]
            if found:
                broadcast(connections, messages.update(JSON, found, cursor), text=True)


def _read(brokers: str, plain: Plain, loop: asyncio.AbstractEventLoop) -> None:
    reader = open_reader(KafkaConfig(bootstrap_servers=brokers), "bench-plain")
    reader.assign({(WINDOWS.name, partition): end for partition, (_, end) in reader.bounds(WINDOWS.name).items()})
    while True:
        if records := reader.poll(0.5):
            loop.call_soon_threadsafe(plain.publish, records)


async def main(port: int, brokers: str) -> None:
    """Serve until killed."""
    plain = Plain()
    async with serve(plain.listen, "127.0.0.1", port, compression=None, backlog=2048) as server:
        threading.Thread(target=_read, args=(brokers, plain, asyncio.get_running_loop()), daemon=True).start()
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
