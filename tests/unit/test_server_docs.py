"""What docs/websocket.md says of the protocol is what server/protocol.py speaks."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from klinestream.market.topics import WINDOWS
from klinestream.runtime.kafka import Record
from klinestream.runtime.server_sections import ServerConfig
from server import app, clients, outbox, protocol
from server.records import entry_from

TEXT = (Path(__file__).parents[2] / "docs" / "websocket.md").read_text()
SERVER = ServerConfig()
LIMITS = {
    "bytes of a message": protocol.MESSAGE_MOST_BYTES,
    "characters of a symbol": protocol.SYMBOL_MOST_CHARS,
    "partitions in a cursor": protocol.PARTITIONS_MOST,
    "symbols a client": SERVER.max_subscriptions,
    "messages a second": SERVER.messages_per_s,
    "clients": SERVER.max_clients,
    "updates that wait": SERVER.client_queue,
    "answers that wait": outbox.REPLIES_MOST,
    "seconds without taking": clients.SEND_MOST_S,
    "seconds of history": SERVER.history_s,
}


def examples(side: str) -> list[str]:
    return re.findall(rf"```json {side}\n(.*?)\n```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", examples("client"))
def test_what_a_client_may_send_is_understood(example: str) -> None:
    """Each example of a client's message parses, as what its `op` says."""
    message = orjson.loads(example)
    cursor = {int(partition): offset for partition, offset in message.get("cursor", {}).items()}
    expected = {
        "subscribe": protocol.Subscribe(message["symbol"], cursor or None),
        "unsubscribe": protocol.Unsubscribe(message["symbol"]),
    }
    assert protocol.parse(example) == expected[message["op"]]


@pytest.mark.parametrize("example", examples("server"))
def test_what_the_server_sends_is_what_it_says(example: str) -> None:
    """Each example of the server's messages is what protocol.py makes of the same values."""
    message = orjson.loads(example)
    assert orjson.loads(MAKERS[message["type"]](message)) == message


def test_each_kind_of_message_has_an_example() -> None:
    """Both of the client's and all four of the server's, a conflated update too."""
    assert {orjson.loads(example)["op"] for example in examples("client")} == {"subscribe", "unsubscribe"}
    assert {orjson.loads(example)["type"] for example in examples("server")} == set(MAKERS)
    assert any("conflated" in orjson.loads(example) for example in examples("server"))


def test_the_windows_in_the_examples_are_windows() -> None:
    """They would pass from the topic to a client."""
    found = [window for example in examples("server") for window in orjson.loads(example).get("windows", ())]
    for window in found:
        record = Record(WINDOWS.name, None, orjson.dumps(window), window["window_end"] - 1, partition=2, offset=0)
        assert entry_from(record, window["window_end"]).symbol == "BTCUSDT"
    assert len(found) == 4


@pytest.mark.parametrize(("name", "limit"), LIMITS.items(), ids=LIMITS)
def test_limits_and_their_defaults_are_documented(name: str, limit: float) -> None:
    """A row of the table begins with the name and gives the value."""
    assert re.search(rf"^\| {name}[^|]*\| {limit:g} \|", TEXT, re.MULTILINE)


def test_the_heartbeat_and_the_close_codes_are_documented() -> None:
    """Their numbers are those of the code."""
    assert f"Every {app.HEARTBEAT_S:g} seconds" in TEXT
    for code in (clients.POLICY_VIOLATION, clients.SERVICE_RESTART, clients.TRY_AGAIN_LATER):
        assert f"| {code} |" in TEXT


def values(message: dict[str, Any]) -> list[bytes]:
    return [orjson.dumps(window) for window in message["windows"]]


def cursor(message: dict[str, Any]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in message["cursor"].items()}


MAKERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "snapshot": lambda message: protocol.snapshot(
        message["symbol"],
        values(message),
        cursor(message),
        now_ms=message["server_time"],
        span_ms=message["span_ms"],
        stale_after_ms=message["stale_after_ms"],
    ),
    "update": lambda message: protocol.update(message["symbol"], values(message), cursor(message), conflated=message.get("conflated", 0)),
    "heartbeat": lambda message: protocol.heartbeat(message["server_time"], message["newest_end"]),
    "error": lambda message: protocol.error(protocol.MessageError(message["expected"], message["came"])),
}
