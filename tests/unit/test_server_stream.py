"""Version 2 of the websocket: who gets what, from where they go on, and what is bounded."""

import json
from typing import Any

import msgpack
import pytest

from klinestream.market.kinds import RecordKind
from klinestream.runtime.server_sections import ServerConfig
from server.candles.rows import decode_candles
from server.candles.store import CandleStore
from server.client import Client, Closed
from server.clients import Hub
from server.history import Entry, History
from server.metrics import Metrics
from server.outbox import REPLIES_MOST
from server.rest.docs import CANDLE
from server.stream.encoding import MESSAGE_PACK
from server.stream.series import Item, Series
from server.stream.stream import Stream
from server.stream.tail import TOPICS, Tail

NOW_MS = 1_790_000_000_000
MINUTE_MS = 60_000
WINDOWS = RecordKind.WINDOWS.topic
CANDLES = RecordKind.CANDLES.topic


class Made:
    """A hub, and what feeds it."""

    def __init__(self, **settings: Any) -> None:
        config = ServerConfig(**settings)
        self.history = History(120_000, windows_most=1000, symbols_most=100)
        self.history.begin({0: 0, 1: 0})
        self.store = CandleStore(10)
        self.stream = Stream(config, self.history, self.store, lambda: NOW_MS)
        self.hub = Hub(config, self.history, self.stream, Metrics(NOW_MS), lambda: NOW_MS)

    def begin(self, offset: int = 0) -> None:
        self.stream.begin({topic: {0: offset, 1: offset} for topic in TOPICS}, {CANDLES: NOW_MS - 5000})

    def windows(self, *offsets: int, symbol: str = "BTCUSDT", partition: int = 0) -> None:
        entries = [Entry(symbol, NOW_MS + 500 * n, 0, 0, partition, n, json.dumps({"n": n}).encode()) for n in offsets]
        self.hub.publish(entries)

    def candle(self, offset: int, symbol: str = "BTCUSDT", revision: int = 0, minute: int | None = None) -> None:
        time_ms = MINUTE_MS * (offset if minute is None else minute)
        value = json.dumps(
            CANDLE | {"s": symbol, "i": "1m", "t": time_ms, "T": time_ms + MINUTE_MS - 1, "n": offset, "revision": revision}
        ).encode()
        found = decode_candles([value], NOW_MS)
        self.store.candles.put(found.series, found.rows)
        self.stream.closed([Item(Series(RecordKind.CANDLES, symbol, "1m"), time_ms, revision, 0, 0, offset, value)], NOW_MS)

    def client(self, *names: str, kinds: tuple[str, ...] = ("windows", "candles"), **further: Any) -> Client:
        client = self.hub.join()
        self.subscribe(client, *names or ("BTCUSDT",), kinds=kinds, **further)
        return client

    def subscribe(self, client: Client, *names: str, kinds: tuple[str, ...] = ("windows", "candles"), **further: Any) -> None:
        self.hub.handle(client, json.dumps({"op": "subscribe", "kinds": kinds, "symbols": names, "intervals": ["1m"]} | further))


def taken(client: Client) -> list[dict[str, Any]]:
    found = []
    while (message := client.waiting.take()) is not None:
        found.append(json.loads(message.text) if isinstance(message.text, str) else msgpack.unpackb(message.text))
    return found


def told(messages: list[dict[str, Any]]) -> list[tuple[str, str, str, list[int]]]:
    """Type, kind, symbol and numbers of all records."""
    found = []
    for message in messages:
        parts = [message] if message["type"] == "snapshot" else message.get("series", [])
        found += [(message["type"], part["kind"], part["symbol"], [record["n"] for record in part["records"]]) for part in parts]
    return found


def test_a_client_gets_what_is_held_then_what_is_new() -> None:
    """A subscribe is told what it came to; snapshots follow, the last with the cursor, then updates with all that came at once."""
    made = Made()
    made.begin()
    made.windows(0, 1)
    client = made.client("BTCUSDT", "ETHUSDT", kinds=("windows",))
    made.hub.publish([Entry(s, NOW_MS + 1000, 0, 0, 0, n, json.dumps({"n": n}).encode()) for n, s in ((2, "BTCUSDT"), (3, "ETHUSDT"))])
    messages = taken(client)
    assert [message["type"] for message in messages] == ["subscribed", "snapshot", "snapshot", "update"]
    assert told(messages) == [
        ("snapshot", "windows", "BTCUSDT", [0, 1]),
        ("snapshot", "windows", "ETHUSDT", []),
        ("update", "windows", "BTCUSDT", [2]),
        ("update", "windows", "ETHUSDT", [3]),
    ]
    assert [message.get("cursor") for message in messages] == [None, None, {WINDOWS: {"0": 2, "1": 0}}, {WINDOWS: {"0": 4, "1": 0}}]


def test_a_cursor_is_answered_by_what_was_missed() -> None:
    """Windows and candles since the cursor, each once, even where other symbols of the partition are further on."""
    made = Made()
    made.begin()
    made.windows(0, 1, 2)
    made.windows(3, symbol="ETHUSDT")
    for offset in range(3):
        made.candle(offset)
    client = made.client(cursor={WINDOWS: {"0": 1, "1": 0}, CANDLES: {"0": 2, "1": 0}})
    messages = taken(client)
    assert told(messages) == [("update", "windows", "BTCUSDT", [1, 2]), ("update", "candles", "BTCUSDT", [2])]
    assert messages[-1]["cursor"] == {WINDOWS: {"0": 4, "1": 0}, CANDLES: {"0": 3, "1": 0}}
    again = made.client(cursor=messages[-1]["cursor"])
    assert [message.get("series") for message in taken(again)] == [None, []]


@pytest.mark.parametrize("cursor", [{"0": 1}, {"0": 1, "1": 5}, {"0": 99, "1": 5}, {}])
def test_a_cursor_that_can_not_be_continued_gets_snapshots(cursor: dict[str, int]) -> None:
    """Too old, ahead, or of other partitions: a snapshot, and never a hole."""
    made = Made()
    made.begin(5)
    made.candle(5)
    assert told(taken(made.client(kinds=("candles",), cursor={CANDLES: cursor}))) == [("snapshot", "candles", "BTCUSDT", [5])]


def test_candles_that_are_still_read_come_when_they_are_there() -> None:
    """Before that they are not answered, and the cursor does not speak of them; then their snapshots come by themselves."""
    made = Made()
    named = taken(made.client("BTCUSDT"))
    assert told(named) == [("snapshot", "windows", "BTCUSDT", [])]
    assert named[-1]["cursor"].keys() == {WINDOWS}
    client = made.client("*")
    assert told(taken(client)) == []
    made.windows(0)
    assert told(taken(client)) == [("snapshot", "windows", "BTCUSDT", [0])]
    made.begin(7)
    [snapshot] = taken(client)
    assert (snapshot["type"], snapshot["kind"], snapshot["cursor"]) == ("snapshot", "candles", {CANDLES: {"0": 7, "1": 7}})


def test_a_pattern_means_symbols_that_appear_later_too() -> None:
    """A new symbol's snapshots come to all who follow a pattern that means it, then what is new; other symbols' don't."""
    made = Made()
    made.begin()
    client = made.client("*USDT")
    taken(client)
    made.windows(0)
    made.windows(1, symbol="ETHBTC")
    made.candle(0, "PEPEUSDT")
    made.windows(2, 3)
    assert told(taken(client)) == [
        ("snapshot", "windows", "BTCUSDT", [0]),
        ("snapshot", "candles", "BTCUSDT", []),
        ("snapshot", "windows", "PEPEUSDT", []),
        ("snapshot", "candles", "PEPEUSDT", [0]),
        ("update", "windows", "BTCUSDT", [2, 3]),
    ]
    made.hub.handle(client, '{"op":"unsubscribe","kinds":["windows","candles"],"symbols":["*USDT"]}')
    made.windows(4)
    made.windows(5, symbol="NEWUSDT")
    assert taken(client) == []


def test_a_pattern_goes_on_at_a_server_that_still_reads() -> None:
    """Whoever comes back with a cursor before the server knows the symbols gets them anew, and nothing that it holds twice."""
    made = Made()
    client = made.client("*", kinds=("windows",), cursor={WINDOWS: {"0": 2, "1": 0}})
    made.windows(0, 1, 2)
    made.windows(3)
    assert told(taken(client)) == [("snapshot", "windows", "BTCUSDT", [0, 1, 2]), ("update", "windows", "BTCUSDT", [3])]


def test_more_symbols_than_a_client_may_follow_are_an_error() -> None:
    """Named, or by a pattern now: an error, and nothing has changed. By a pattern later: one error, and the first ones stay."""
    made = Made(max_subscriptions=2)
    client = made.client("A", "B", "C", kinds=("windows",))
    made.windows(0, symbol="A")
    [refused] = taken(client)
    assert (refused["type"], refused["expected"], refused["came"]) == ("error", "at most 2 symbols a client", "3 with these")
    made.subscribe(client, "*", kinds=("windows",))
    taken(client)
    for offset, symbol in enumerate("ABCD", 1):
        made.windows(offset, symbol=symbol)
    messages = taken(client)
    assert [message["type"] for message in messages] == ["snapshot", "error", "update"]
    assert {symbol for _, _, symbol, _ in told(messages)} == {"A", "B"}


def test_a_record_is_news_only_if_it_counts_more() -> None:
    """Repeats and older revisions of closed candles are sent to nobody; a higher revision is."""
    made = Made()
    made.begin()
    client = made.client(kinds=("candles",))
    taken(client)
    for offset, revision in enumerate((1, 1, 0, 2)):
        made.candle(offset, revision=revision, minute=0)
    assert told(taken(client)) == [("update", "candles", "BTCUSDT", [0]), ("update", "candles", "BTCUSDT", [3])]


def test_the_candles_in_progress_are_the_newest_and_have_no_cursor() -> None:
    """A snapshot of the newest record, then each further one; one that isn't JSON of its symbol is left out."""
    made = Made()
    made.store.put_provisional("BTCUSDT", 1, b'{"s":"BTCUSDT","n":1}')
    client = made.client(kinds=("provisional",))
    made.stream.in_progress({"BTCUSDT": (2, b'{"s":"BTCUSDT","n":2}'), "ETHUSDT": (2, b'{"s":"ETHUSDT","n":3}')})
    for broken in (b'{"s":"BTCUSDT"', b'{"s":"ETHUSDT"}', b"[]"):
        made.stream.in_progress({"BTCUSDT": (3, broken)})
    messages = taken(client)
    assert told(messages) == [("snapshot", "provisional", "BTCUSDT", [1]), ("update", "provisional", "BTCUSDT", [2])]
    assert messages[-1]["cursor"] == {}


def test_no_cursor_overtakes_records_that_wait() -> None:
    """While updates wait, the answer to a further subscribe has no cursor: a client that breaks off then misses nothing."""
    made = Made()
    client = made.client("BTCUSDT", kinds=("windows",))
    taken(client)
    made.windows(0)
    made.subscribe(client, "ETHUSDT", kinds=("windows",))
    messages = taken(client)
    assert [message["type"] for message in messages] == ["subscribed", "snapshot", "update"]
    assert [("cursor" in message) for message in messages] == [False, False, True]


def test_messagepack_says_the_same() -> None:
    """A client that asked for it gets binary messages of the same objects; its own are JSON text."""
    made = Made()
    made.windows(0, 1)
    packed, plain = made.hub.join(MESSAGE_PACK), made.hub.join()
    for client in (packed, plain):
        made.subscribe(client, "BTCUSDT", kinds=("windows",))
    made.windows(2)
    made.hub.heartbeat()
    assert isinstance(packed.waiting.take().text, bytes)  # type: ignore[union-attr]
    plain.waiting.take()
    assert taken(packed) == taken(plain)


def test_heartbeats_tell_the_age_of_each_kind() -> None:
    """The server's time less the newest record's; null where there is none."""
    made = Made()
    made.begin()
    client = made.client()
    made.windows(-4)
    taken(client)
    made.hub.heartbeat()
    [beat] = taken(client)
    ages = {"windows": 2000, "candles": 5000, "provisional": None, "indicators": None, "signals": None, "books": None}
    assert (beat["v"], beat["server_time"], beat["age_ms"]) == (2, NOW_MS, ages)


def test_errors_say_what_to_do_and_the_version_stays() -> None:
    """Nonsense and messages of version 1 are errors to a client of version 2, and the other way round."""
    made = Made()
    client, other = made.client(), made.hub.join()
    taken(client)
    made.hub.handle(client, "nonsense")
    made.hub.handle(client, '{"op":"subscribe","symbol":"BTCUSDT"}')
    assert [(error["type"], error["v"]) for error in taken(client)] == [("error", 2)] * 2
    made.hub.handle(other, '{"op":"subscribe","symbol":"BTCUSDT"}')
    made.subscribe(other, "BTCUSDT")
    assert [(message["type"], message["v"]) for message in taken(other)] == [("snapshot", 1), ("error", 1)]


def test_who_asks_without_reading_is_closed() -> None:
    """Answers are bounded."""
    made = Made()
    client = made.client()
    for _ in range(REPLIES_MOST - 1):
        made.subscribe(client, "BTCUSDT")
    with pytest.raises(Closed, match="too slow"):
        made.subscribe(client, "BTCUSDT")


def test_what_is_followed_is_counted_over_both_versions() -> None:
    """A symbol counts once a client, however many of its series it follows; who has left counts no more, and gets nothing."""
    made = Made()
    client, old = made.client("BTCUSDT"), made.hub.join()
    made.hub.handle(old, '{"op":"subscribe","symbol":"BTCUSDT"}')
    assert made.hub.followers() == {"BTCUSDT": 2}
    made.hub.handle(client, '{"op":"unsubscribe","kinds":["windows"],"symbols":["BTCUSDT"]}')
    assert made.hub.followers() == {"BTCUSDT": 2}
    made.hub.leave(client)
    assert made.hub.followers() == {"BTCUSDT": 1}
    assert made.hub.changes == 3
    taken(client)
    made.windows(0)
    assert taken(client) == []


def test_the_limit_says_how_much_of_the_past_comes() -> None:
    """The newest so many, and whether there is more."""
    made = Made()
    made.windows(0, 1, 2)
    _, snapshot = taken(made.client(kinds=("windows",), limit=2))
    assert [record["n"] for record in snapshot["records"]] == [1, 2]
    assert snapshot["more"]


def test_the_tail_is_bounded_and_its_floor_rises() -> None:
    """What has left it can't be gone on from; what is in it can, at its very first record too."""
    tail = Tail(bytes_most=5000)
    tail.begin({CANDLES: {0: 0}})
    series = Series(RecordKind.CANDLES, "BTCUSDT", "1m")
    for offset in range(100):
        assert tail.add(Item(series, offset, 0, 0, 0, offset, b"x" * 100))
    held = next(offset for offset in range(100) if tail.since(CANDLES, {0: offset}) is not None)
    assert held == 90
    found = tail.since(CANDLES, {0: held})
    assert found is not None
    assert [item.offset for item in found[series]] == list(range(90, 100))
    assert tail.since(CANDLES, {0: 101}) is None
    tail.void()
    assert tail.since(CANDLES, {0: 99}) is None
    assert not tail.ready
