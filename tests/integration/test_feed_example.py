"""The example of docs/feeds.md, through the real runner, between a small venue and a real broker."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from klinestream.market.codec import decode_id_gap, decode_trade, encode_event
from klinestream.market.events import IdGapState, Origin, Proof, Trade
from klinestream.market.topics import DEAD_LETTERS, ID_GAPS, TRADES
from klinestream.runtime.config import Config
from klinestream.runtime.control import ControlLog
from klinestream.runtime.kafka import Record
from tests.eventually import eventually
from tests.integration.running_feed import START_S, RunningFeed, all_of
from tests.stack import TestBroker
from tests.topics import publish

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "numbered_feed.py"
PAGE = EXAMPLE.parents[1] / "feeds.md"
LINES_MOST = 80
NOW_MS = 1_700_000_000_000
FOREIGN = Trade(
    "NUMBERED:AAPL", None, 500, 500, 10**8, 10**8, NOW_MS + 500, None, None, Origin.POSTED, "somebody", Proof.NONE
)  # fmt: skip  # what others write is no place to go on from


class Venue:
    """Says what the test wants said to whoever is connected, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.connections: list[ServerConnection] = []
        self._server = serve(self._listen, "127.0.0.1", 0, compression=None, close_timeout=1)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _listen(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        try:
            for message in connection:
                self.asked.append(orjson.loads(message))
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(connection)

    def say(self, name: str, *numbers: int) -> None:
        for number in numbers:
            trade = {"s": name, "n": number, "p": "190.25000000", "v": "3.00000000", "t": NOW_MS + number}
            for connection in list(self.connections):
                connection.send(orjson.dumps(trade), text=True)

    def close(self) -> None:
        for connection in list(self.connections):
            connection.close()
        self._server.shutdown()
        self._thread.join()


def test_the_example_is_a_feed(configured: Callable[..., Config], job_broker: TestBroker) -> None:
    """Under 80 lines, it follows configured and added names of its own venue, puts each number once and in order into the topic,
    tells which are missing, survives a cut and a kill, and sends what is no trade to the dead letters.
    """
    assert len(EXAMPLE.read_text().splitlines()) < LINES_MOST
    assert EXAMPLE.read_text() in PAGE.read_text(), "docs/feeds.md shows it"
    config = configured(
        kafka={"bootstrap_servers": job_broker.bootstrap_servers},
        producer={"name": "test", "silence_s": 20.0, "backoff_first_s": 0.1},
        log={"level": "warning"},
    )
    venue = Venue()

    def start() -> RunningFeed:
        return RunningFeed("AAPL", config, 0, (str(EXAMPLE), venue.url))

    def published() -> list[int]:
        return [decode_trade(record.value or b"").first_id for record in all_of(config, TRADES)]

    feed = start()
    try:
        eventually(lambda: venue.asked == [{"follow": ["AAPL"]}], START_S, "AAPL is followed")
        venue.say("AAPL", 7, 8, 8, 9)
        for connection in list(venue.connections):
            connection.send("no trade", text=True)
            connection.send(orjson.dumps({"s": "MSFT", "n": 1, "p": "1.00000000", "v": "1.00000000", "t": NOW_MS}), text=True)
            connection.socket.shutdown(2)
        eventually(lambda: len(venue.asked) == 2, START_S, "it comes back")
        venue.say("AAPL", 8, 12, 13)
        eventually(lambda: published() == [7, 8, 9, 12, 13], START_S, "what is known goes on")
        feed.end(signal.SIGKILL)
        publish(config.kafka.bootstrap_servers, [Record(TRADES.name, b"NUMBERED:AAPL", encode_event(FOREIGN), FOREIGN.time_ms)])
        feed = start()
        eventually(lambda: len(venue.asked) == 3, START_S, "the next one follows it")
        with ControlLog(config.kafka) as control:
            for name in ("NUMBERED:IBM", "BTCUSDT"):
                control.say(name, True, "test")
        eventually(lambda: venue.asked[-1] == {"follow": ["IBM"]}, START_S, "its own venue's name joins")
        venue.say("AAPL", 13, 14)
        venue.say("IBM", 1)
        eventually(lambda: len(published()) == 8, START_S, "both go on")
    finally:
        code = feed.end()
        venue.close()
    assert code == 0
    trades = [decode_trade(record.value or b"") for record in all_of(config, TRADES)]
    trades.remove(FOREIGN)
    assert [t.first_id for t in trades if t.symbol == "NUMBERED:AAPL"] == [7, 8, 9, 12, 13, 14]
    assert [t.symbol for t in trades if t.first_id == 1] == ["NUMBERED:IBM"]
    assert {(t.source, t.proof) for t in trades} == {("numbered", Proof.IDS)}
    (gap,) = [decode_id_gap(record.value or b"") for record in all_of(config, ID_GAPS)]
    assert (gap.feed, gap.symbol, gap.from_id, gap.to_id, gap.state) == ("numbered", "NUMBERED:AAPL", 10, 12, IdGapState.UNFILLABLE)
    letters = [orjson.loads(record.value or b"") for record in all_of(config, DEAD_LETTERS)]
    assert [letter["reason"] for letter in letters] == ["not a trade", "s: expected a symbol that was asked for"]
    assert {letter["source"] for letter in letters} == {venue.url}
