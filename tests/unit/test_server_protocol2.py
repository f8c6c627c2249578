"""Version 2 of the websocket's messages: what is read, how it is written, and that the documents say the same."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgpack
import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.kinds import KIND_OF_TOPIC, RecordKind
from server import protocol
from server.protocol import MessageError
from server.stream import answers, messages, requests, tail
from server.stream.encoding import ENCODINGS, JSON, MESSAGE_PACK, Encoding
from server.stream.messages import Cursor
from server.stream.requests import Selection, Subscribe, Unsubscribe
from server.stream.series import Item, Series

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "websocket.md").read_text()
CANDLES = Series(RecordKind.CANDLES, "BTCUSDT", "1m")
BASE: dict[str, Any] = {"op": "subscribe", "kinds": ["windows", "candles"], "symbols": ["BTCUSDT"], "intervals": ["1m"]}


def examples(side: str) -> list[dict[str, Any]]:
    return [orjson.loads(found) for found in re.findall(rf"```json {side}\n(.*?)\n```", TEXT, re.DOTALL)]


def unpacked(encoding: Encoding, message: bytes) -> Any:
    return json.loads(message) if encoding.is_text else msgpack.unpackb(message)


def test_a_subscription_is_read_as_it_was_meant() -> None:
    """Kinds, names, intervals, cursor and limit; what comes twice counts once."""
    message = BASE | {"symbols": ["BTCUSDT", "*BTC", "BTCUSDT"], "cursor": {"crypto_candles": {"0": 7}}, "limit": 5}
    selection = Selection((RecordKind.WINDOWS, RecordKind.CANDLES), ("BTCUSDT", "*BTC"), ("1m",))
    assert requests.read(message) == Subscribe(selection, {"crypto_candles": {0: 7}}, 5)
    assert selection.symbols == ("BTCUSDT",)
    assert selection.patterns == ("*BTC",)


def test_unsubscribing_without_intervals_means_all_of_them() -> None:
    """A series of any interval is meant, one of another kind or symbol isn't."""
    request = requests.read({"op": "unsubscribe", "kinds": ["candles"], "symbols": ["*USDT"]})
    assert isinstance(request, Unsubscribe)
    meant, other_kind, other_symbol = (
        Series(RecordKind.CANDLES, "BTCUSDT", "4h"),
        Series(RecordKind.SIGNALS, "BTCUSDT", "4h"),
        Series(RecordKind.CANDLES, "ETHBTC", "4h"),
    )
    assert request.selection.among([meant, other_kind, other_symbol]) == [meant]


@pytest.mark.parametrize(
    "change",
    [
        {"op": "publish"},
        {"kinds": []},
        {"kinds": ["trades"]},
        {"kinds": "windows"},
        {"kinds": [["windows"]]},
        {"symbols": []},
        {"symbols": "BTCUSDT"},
        {"symbols": ["btcusdt"]},
        {"symbols": ["B" * 41]},
        {"symbols": [7]},
        {"intervals": None},
        {"intervals": []},
        {"intervals": ["2m"]},
        {"cursor": 7},
        {"cursor": {"crypto_kline_data": {"0": 1}}},
        {"cursor": {"crypto_candles": {"0": -1}}},
        {"cursor": {"crypto_candles": {str(n): n for n in range(200)}}},
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
    ],
)
def test_values_out_of_bounds_are_refused(change: dict[str, Any]) -> None:
    """Each error says what was expected, what came and what to do."""
    with pytest.raises(MessageError) as caught:
        requests.read(BASE | change)
    assert caught.value.expected
    assert caught.value.came
    assert caught.value.do


@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@given(
    record=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text())
)
def test_both_encodings_say_the_same(encoding: Encoding, record: dict[str, Any]) -> None:
    """A message joined from encoded parts is the message, records with it."""
    record = orjson.loads(orjson.dumps(record))
    part = messages.part(encoding, CANDLES, [orjson.dumps(record)], conflated=3)
    message = unpacked(encoding, messages.update(encoding, [part, part], Cursor({"crypto_candles": {2: 9}})))
    told = {"kind": "candles", "symbol": "BTCUSDT", "interval": "1m", "conflated": 3, "records": [record]}
    assert message == {"type": "update", "v": 2, "series": [told, told], "cursor": {"crypto_candles": {"2": 9}}}


def test_records_of_json_are_passed_on_as_they_are() -> None:
    """The bytes of a record stand in the message, whatever digits they have."""
    values = [b'{"average_price":0.10000000000000000555}', b'{"average_price":1e-08}']
    message = messages.update(JSON, [messages.part(JSON, CANDLES, values)], None)
    assert all(value in message for value in values)


def test_a_part_is_encoded_once_for_each_encoding() -> None:
    """Whoever asks gets the same bytes."""
    part = messages.Part(CANDLES, [Item(CANDLES, 0, 0, 0, 0, 0, b"{}")])
    assert part.encoded(JSON) is part.encoded(JSON)
    assert part.encoded(MESSAGE_PACK) is part.encoded(MESSAGE_PACK)


@pytest.mark.parametrize("example", examples("client2"), ids=str)
def test_what_a_client_may_send_is_understood(example: dict[str, Any]) -> None:
    """Each example parses, as what its `op` says."""
    assert type(requests.read(example)).__name__.lower() == example["op"]


@pytest.mark.parametrize("example", examples("server2"), ids=str)
def test_what_the_server_sends_is_what_it_says(example: dict[str, Any]) -> None:
    """Each example of the page is what the code makes of the same values."""
    assert orjson.loads(made(example)) == example


def test_each_type_of_message_has_an_example() -> None:
    """All that the server sends, a conflated update too, and both operations."""
    assert {example["type"] for example in examples("server2")} == {"subscribed", "snapshot", "update", "heartbeat", "error"}
    assert any("conflated" in part for example in examples("server2") for part in example.get("series", ()))
    assert {example["op"] for example in examples("client2")} == {"subscribe", "unsubscribe"}


def test_limits_are_documented() -> None:
    """Those of version 2, with the code's numbers."""
    assert f"| records of a series in a snapshot | {requests.LIMIT_MOST} | `limit`, {requests.DEFAULT_LIMIT} without it |" in TEXT
    assert f"| records of all snapshots of an answer | {answers.ROWS_MOST} |" in TEXT
    assert f"to go on from, a partition | {tail.BYTES_MOST >> 20} |" in TEXT


class TestAsyncApi:
    """docs/asyncapi.yaml says what the code sends and takes."""

    document = yaml.safe_load((DOCS / "asyncapi.yaml").read_text())

    def checked(self, schema: str, message: Any) -> None:
        whole = {"$ref": f"#/components/schemas/{schema}", "components": self.document["components"]}
        jsonschema.Draft202012Validator(whole).validate(message)

    def of(self, side: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Schema and message, of all examples of the page: they are what the code makes and takes."""
        for example in examples(f"{side}2"):
            yield example["type" if side == "server" else "op"], example
        for example in examples(side):
            yield f"{example['type' if side == 'server' else 'op']}1", example

    @pytest.mark.parametrize("side", ["client", "server"])
    def test_every_message_fits_its_schema(self, side: str) -> None:
        """No field that the file doesn't know, none missing that it demands."""
        for schema, message in self.of(side):
            self.checked(schema, message)

    @pytest.mark.parametrize("side", ["client", "server"])
    def test_every_field_of_the_file_is_sent_or_taken(self, side: str) -> None:
        """Each field of each schema stands in an example; so none is left over from before."""
        seen: dict[str, set[str]] = {}
        for schema, message in self.of(side):
            seen.setdefault(schema, set()).update(message)
        missing = {name: set(self.document["components"]["schemas"][name]["properties"]) - fields for name, fields in seen.items()}
        unsubscribe = {"intervals"} if side == "client" else set()
        assert {name: fields for name, fields in missing.items() if fields - unsubscribe} == {}

    def test_its_kinds_intervals_and_topics_are_those_of_the_code(self) -> None:
        """The lists of values."""
        schemas = self.document["components"]["schemas"]
        assert schemas["kind"]["enum"] == [kind.value for kind in RecordKind]
        assert schemas["cursor"]["propertyNames"]["enum"] == list(KIND_OF_TOPIC)
        assert schemas["interval"]["enum"] == list(requests.INTERVALS)
        assert schemas["symbol"]["maxLength"] == protocol.SYMBOL_MOST_CHARS
        limit = schemas["subscribe"]["properties"]["limit"]
        assert (limit["default"], limit["maximum"]) == (requests.DEFAULT_LIMIT, requests.LIMIT_MOST)

    def test_every_reference_leads_somewhere(self) -> None:
        """Channels, operations and messages name what is there."""
        for reference in re.findall(r"\$ref: \"#/([^\"]+)\"", (DOCS / "asyncapi.yaml").read_text()):
            found = self.document
            for name in reference.split("/"):
                found = found[name]
            assert found


def made(example: dict[str, Any]) -> bytes:
    """The example's values, written by the code."""
    cursor = Cursor(example["cursor"]) if "cursor" in example else None
    match example["type"]:
        case "subscribed":
            selection = Selection(tuple(map(RecordKind, example["kinds"])), (), tuple(example["intervals"]))
            times = {"now_ms": example["server_time"], "stale_after_ms": example["stale_after_ms"]}
            return messages.subscribed(JSON, selection, example["symbols"], **times)
        case "snapshot":
            return messages.snapshot(JSON, series_of(example), encoded(example), cursor, more=example["more"])
        case "update":
            parts = [messages.part(JSON, series_of(each), encoded(each), conflated=each.get("conflated", 0)) for each in example["series"]]
            return messages.update(JSON, parts, cursor)
        case "heartbeat":
            now_ms = example["server_time"]
            newest = {RecordKind(kind): None if age is None else now_ms - age for kind, age in example["age_ms"].items()}
            return messages.heartbeat(JSON, now_ms, newest)
        case _:
            return messages.error(JSON, MessageError(example["expected"], example["came"], example["do"]))


def series_of(example: dict[str, Any]) -> Series:
    return Series(RecordKind(example["kind"]), example["symbol"], example.get("interval", ""))


def encoded(example: dict[str, Any]) -> list[bytes]:
    return [orjson.dumps(record) for record in example["records"]]
