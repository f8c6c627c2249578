"""Whatever a client sends, it gets a message or is closed with a reason, and the server goes on."""

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from klinestream.runtime.config import ServerConfig
from server.candle_store import CandleStore
from server.client import Client, Closed
from server.clients import Hub
from server.history import Entry, History
from server.metrics import Metrics
from server.stream import Stream
from server.stream_series import Kind

NOW_MS = 1_790_000_000_000

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4))
names = st.sampled_from(["BTCUSDT", "ETHUSDT", "*", "*USDT", "B?CUSDT", "[A-Z]*", "btc", ""])
kinds = st.sampled_from([*Kind, "trades"])
positions = st.dictionaries(st.sampled_from(["0", "1", "-1", "x"]), st.integers(-1, 5), max_size=2)
messages = st.fixed_dictionaries(
    {"op": st.sampled_from(["subscribe", "subscribe", "unsubscribe", "ping"]) | values},
    optional={
        "kinds": st.lists(kinds, max_size=3) | values,
        "symbols": st.lists(names, max_size=3) | values,
        "symbol": names | values,
        "intervals": st.lists(st.sampled_from(["1m", "1d", "2m"]), max_size=2) | values,
        "cursor": st.dictionaries(st.sampled_from([kind.topic for kind in Kind]), positions, max_size=3) | positions | values,
        "limit": st.integers(-1, 1001) | values,
    },
)
texts = st.text() | st.binary().map(lambda raw: raw.decode(errors="replace")) | values.map(json.dumps) | messages.map(json.dumps)


def hub() -> Hub:
    config = ServerConfig(max_subscriptions=2, client_queue=2)
    history = History(120_000, windows_most=10, symbols_most=10)
    history.begin({0: 0})
    stream = Stream(config, history, CandleStore(5), lambda: NOW_MS)
    stream.begin({kind.topic: {0: 0} for kind in Kind}, {})
    return Hub(config, history, stream, Metrics(), lambda: NOW_MS)


def taken(client: Client) -> list[dict[str, Any]]:
    found = []
    while (message := client.waiting.take()) is not None:
        found.append(orjson.loads(message.text))
    return found


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
