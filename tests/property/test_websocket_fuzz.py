"""Whatever a client sends, it gets a message or is closed with a reason, and the server goes on."""

import json
from typing import Any

import msgpack
import orjson
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.kinds import RecordKind
from klinestream.runtime.server_sections import ServerConfig
from server.candles.rows import decode_candles
from server.candles.store import CandleStore
from server.client import Client, Closed
from server.clients import Hub
from server.history import Entry, History
from server.metrics import Metrics
from server.rest.docs import CANDLE
from server.stream.encoding import ENCODINGS, Encoding
from server.stream.requests import LIMIT_MOST
from server.stream.series import Item, Series
from server.stream.stream import Stream

NOW_MS = 1_790_000_000_000
SYMBOLS_MOST = 2
WINDOWS = 6
WINDOWS_TOPIC = RecordKind.WINDOWS.topic

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4))
names = st.sampled_from(["BTCUSDT", "ETHUSDT", "*", "*USDT", "B?CUSDT", "[A-Z]*", "btc", ""])
kinds = st.sampled_from([*RecordKind, "trades"])
positions = st.dictionaries(st.sampled_from(["0", "1", "-1", "x"]), st.integers(-1, 5), max_size=2)
messages = st.fixed_dictionaries(
    {"op": st.sampled_from(["subscribe", "subscribe", "unsubscribe", "ping"]) | values},
    optional={
        "kinds": st.lists(kinds, max_size=3) | values,
        "symbols": st.lists(names, max_size=3) | values,
        "symbol": names | values,
        "intervals": st.lists(st.sampled_from(["1m", "1d", "2m"]), max_size=2) | values,
        "cursor": st.dictionaries(st.sampled_from([kind.topic for kind in RecordKind]), positions, max_size=3) | positions | values,
        "limit": st.integers(-1, 1001) | values,
    },
)
odd_offsets = st.integers(-3, WINDOWS + 3) | st.integers() | st.none() | st.text(max_size=3) | st.booleans() | st.floats()
odd_cursors = st.dictionaries(
    st.sampled_from([*(kind.topic for kind in RecordKind), "crypto_other"]),
    st.dictionaries(st.sampled_from(["0", "00", "1", "-1", "x", "", "9" * 10, "٣"]), odd_offsets, max_size=3) | values,
    max_size=3,
)
odd_names = st.sampled_from(["BTCUSDT", "ETHUSDT", "BTC*", "*USDT", "???USDT", "*", "**", "*?*", "A" * 40, "A" * 41, "btcusdt", "[A]", ""])
subscriptions = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["subscribe", "subscribe", "subscribe", "unsubscribe"]),
        "kinds": st.lists(st.sampled_from(list(RecordKind)), min_size=1, max_size=6),
        "symbols": st.lists(odd_names, min_size=1, max_size=4),
        "intervals": st.lists(st.sampled_from(["1m", "5m", "1d"]), min_size=1, max_size=3),
    },
    optional={"cursor": odd_cursors, "limit": st.integers(0, LIMIT_MOST + 1)},
)
"""Most of them good ones of version 2, with a part that is odd."""
texts = st.text() | st.binary().map(lambda raw: raw.decode(errors="replace")) | values.map(json.dumps) | messages.map(json.dumps)


def hub() -> Hub:
    config = ServerConfig(max_subscriptions=SYMBOLS_MOST, client_queue=2)
    history = History(120_000, windows_most=10, symbols_most=10)
    history.begin({0: 0})
    store = CandleStore(5)
    found = decode_candles([orjson.dumps(CANDLE)], NOW_MS)
    store.candles.put(found.series, found.rows)
    stream = Stream(config, history, store, lambda: NOW_MS)
    stream.begin({kind.topic: {0: 0} for kind in RecordKind}, {})
    return Hub(config, history, stream, Metrics(NOW_MS), lambda: NOW_MS)


def window(symbol: str, number: int) -> Entry:
    return Entry(symbol, NOW_MS + 500 * number, 0, 0, 0, number, b'{"n":%d}' % number)


def taken(client: Client) -> list[dict[str, Any]]:
    found = []
    while (message := client.waiting.take()) is not None:
        found.append(orjson.loads(message.text) if isinstance(message.text, str) else msgpack.unpackb(message.text))
    return found


def windows_of(symbol: str, messages: list[dict[str, Any]]) -> list[int]:
    """The numbers of a symbol's windows, as they came."""
    parts = [part for message in messages for part in message.get("series", [message])]
    return [record["n"] for part in parts if (part.get("kind"), part.get("symbol")) == ("windows", symbol) for record in part["records"]]


def ended_by(made: Hub, client: Client, text: str) -> str | None:
    """Why a message ended the client, if it did."""
    try:
        made.handle(client, text)
    except Closed as closed:
        return closed.reason
    return None


@given(st.lists(st.tuples(texts, st.booleans()), max_size=12))
def test_any_messages_are_answered_or_end_the_client(sent: list[tuple[str, bool]]) -> None:
    """Each answer has a known type and one version; in the end nobody is left who follows anything."""
    made = hub()
    client = made.join()
    versions = set()
    for number, (text, reads) in enumerate(sent):
        reason = ended_by(made, client, text)
        if reason is not None:
            assert reason.startswith("too slow")
            break
        made.publish([Entry("BTCUSDT", NOW_MS + 500 * number, 0, 0, 0, number, b"{}")])
        made.heartbeat()
        for message in taken(client) if reads else ():
            versions.add(message["v"])
            assert message["type"] in {"subscribed", "snapshot", "update", "error", "heartbeat"}
    made.leave(client)
    assert made.followers() == {}
    assert sorted(versions) in ([], [1], [2], [1, 2])


@given(texts)
def test_a_message_has_its_answer(text: str) -> None:
    """One that is no subscribe or unsubscribe gets an error that says what was expected, and what came."""
    made = hub()
    client = made.join()
    made.handle(client, text)
    for message in taken(client):
        if message["type"] == "error":
            assert message["expected"]
            assert len(message["came"]) <= 80
            assert message["v"] == 1 or message["do"]


def talk(encoding: Encoding, sent: list[tuple[dict[str, Any], bool]]) -> list[dict[str, Any]]:
    """All that a client of version 2 gets that sends these, and reads after some of them, while windows and candles come."""
    made = hub()
    client = made.join(encoding)
    assert client.follower is not None
    got = []
    for number, (message, reads) in enumerate(sent):
        if ended_by(made, client, json.dumps(message)) is not None:
            break
        assert len(client.follower.symbols) <= SYMBOLS_MOST
        assert len(client.follower.patterns) <= SYMBOLS_MOST
        made.publish([window(symbol, 2 * number + place) for place, symbol in enumerate(("BTCUSDT", "ETHUSDT"))])
        candle = Item(Series(RecordKind.CANDLES, "BTCUSDT", "1m"), NOW_MS + 60_000 * number, 0, 0, 0, number, b'{"n":%d}' % number)
        made._stream.closed([candle], NOW_MS)
        got += taken(client) if reads else []
    got += taken(client)
    made.leave(client)
    assert made.followers() == {}
    return got


@given(st.lists(st.tuples(subscriptions, st.booleans()), max_size=8))
def test_both_encodings_say_the_same(sent: list[tuple[dict[str, Any], bool]]) -> None:
    """Message by message, whatever is asked; nobody follows more symbols or patterns than may be."""
    as_json, as_msgpack = (talk(encoding, sent) for encoding in ENCODINGS.values())
    assert as_json == as_msgpack
    assert {message["v"] for message in as_json} <= {2}


@given(st.integers(-3, WINDOWS + 3) | st.integers(), st.booleans())
def test_no_cursor_makes_a_client_miss_a_window(offset: int, ours: bool) -> None:
    """From the cursor on where that can be, else from a snapshot: it gets all that it doesn't hold, once, in order."""
    made = hub()
    made.publish([window("BTCUSDT", number) for number in range(WINDOWS)])
    client = made.join()
    cursor = {WINDOWS_TOPIC: {"0" if ours else "7": offset}}
    made.handle(client, json.dumps({"op": "subscribe", "kinds": ["windows"], "symbols": ["BTC*"], "cursor": cursor}))
    held = set(range(offset)) if ours and 0 <= offset <= WINDOWS else set()
    messages = taken(client)
    if messages[0]["type"] == "error":
        assert not 0 <= offset < 2**63
        return
    assert windows_of("BTCUSDT", messages) == [number for number in range(WINDOWS) if number not in held]
    made.publish([window("BTCUSDT", WINDOWS)])
    assert windows_of("BTCUSDT", taken(client)) == [WINDOWS]


@given(st.lists(subscriptions, max_size=6), odd_cursors)
def test_a_subscribe_that_is_refused_changes_nothing(sent: list[dict[str, Any]], cursor: dict[str, Any]) -> None:
    """What was followed before is followed after it, and no more."""
    made = hub()
    made.publish([window("BTCUSDT", 0), window("ETHUSDT", 1)])
    client = made.join(ENCODINGS["msgpack"])
    assert client.follower is not None
    for message in [*sent, {"op": "subscribe", "kinds": ["windows"], "symbols": ["BTCUSDT"], "cursor": cursor}]:
        before = dict(client.follower.series), dict(client.follower.patterns)
        made.handle(client, json.dumps(message))
        if any(answer["type"] == "error" for answer in taken(client)):
            assert (client.follower.series, client.follower.patterns) == before


@given(st.text(max_size=40), st.integers(1, 300))
def test_nesting_and_length_are_bounded(text: str, depth: int) -> None:
    """However deep an object or a list is, and whatever stands in it, it is told as at most 80 characters."""
    made = hub()
    for encoding in (None, *ENCODINGS.values()):
        client = made.join(encoding)
        for nested in ("[" * depth + "]" * depth, '{"symbols":' * depth + "1" + "}" * depth, json.dumps([text] * depth)):
            message = f'{{"op":"subscribe","kinds":["windows"],"symbols":{nested}}}'
            made.handle(client, message)
            assert all(len(answer.get("came", "")) <= 80 for answer in taken(client))
