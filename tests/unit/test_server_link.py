"""Frames written straight to clients' sockets: shared, never overtaking, never waiting."""

import json
from typing import Any, cast

from server.client import Client
from server.history import Entry
from server.link import Link
from server.stream.encoding import JSON, MESSAGE_PACK
from tests.unit.test_server_stream import NOW_MS, Made, taken


class Wire:
    """A link whose other end takes everything, or nothing."""

    def __init__(self) -> None:
        self.takes = True
        self.written: list[bytes] = []

    def write(self, frames: bytes) -> bool:
        if self.takes:
            self.written.append(frames)
        return self.takes


def linked(made: Made, *names: str, encoding: Any = JSON) -> tuple[Client, Wire]:
    """A client of version 2 whose answers are taken, and its wire."""
    wire = Wire()
    client = made.hub.join(encoding, cast(Link, wire))
    made.subscribe(client, *names, kinds=("windows",))
    taken(client)
    client.idle = True  # as its task does before it sleeps
    return client, wire


def numbers(frame: bytes) -> list[int]:
    """The records' numbers of an update of fewer than 64 KiB."""
    message = json.loads(frame[frame.index(b"{") :])
    return [record["n"] for part in message["series"] for record in part["records"]]


def test_who_follows_the_same_gets_the_same_bytes() -> None:
    """One frame for all of an audience; who follows more, or in another encoding, gets another one."""
    made = Made()
    wires = [linked(made, *names)[1] for names in (("BTCUSDT", "ETHUSDT"), ("ETHUSDT", "BTCUSDT"), ("BTCUSDT",))]
    _, packed = linked(made, "BTCUSDT", "ETHUSDT", encoding=MESSAGE_PACK)
    made.hub.publish([Entry(s, NOW_MS, 0, 0, 0, n, json.dumps({"n": n}).encode()) for n, s in enumerate(("BTCUSDT", "ETHUSDT"))])
    [[one], [same], [other]] = [wire.written for wire in wires]
    assert one is same
    assert numbers(one) == [0, 1]
    assert numbers(other) == [0]
    assert packed.written[0][0] == 0x82  # a whole binary message


def test_nothing_is_overtaken() -> None:
    """While anything waits for a client, or its socket takes nothing, what is new waits behind it; then it is written at once again."""
    made = Made()
    client, wire = linked(made, "BTCUSDT")
    wire.takes = False
    made.windows(0)
    wire.takes = True
    made.windows(1)
    made.hub.heartbeat()
    assert wire.written == []
    heartbeat, first, second = taken(client)
    assert heartbeat["type"] == "heartbeat"
    assert [record["n"] for update in (first, second) for record in update["series"][0]["records"]] == [0, 1]
    client.wake.clear()
    client.idle = True
    made.windows(2)
    assert [numbers(frame) for frame in wire.written] == [[2]]


def test_what_waits_for_one_client_is_not_taken_from_another() -> None:
    """Clients share updates; one that leaves a series forgets it alone."""
    made = Made()
    clients = [linked(made, "BTCUSDT", "ETHUSDT") for _ in range(2)]
    for _, wire in clients:
        wire.takes = False
    made.hub.publish([Entry(s, NOW_MS, 0, 0, 0, n, json.dumps({"n": n}).encode()) for n, s in enumerate(("BTCUSDT", "ETHUSDT"))])
    made.hub.handle(clients[0][0], '{"op":"unsubscribe","kinds":["windows"],"symbols":["BTCUSDT"]}')
    found = [[part["symbol"] for message in taken(client) for part in message["series"]] for client, _ in clients]
    assert found == [["ETHUSDT"], ["BTCUSDT", "ETHUSDT"]]
    made.windows(2)
    assert [len(taken(client)) for client, _ in clients] == [0, 1]


def test_all_updates_of_version_1_go_out_together() -> None:
    """One write for all symbols of a client that came at once, each a message of its own."""
    made = Made()
    wire = Wire()
    client = made.hub.join(None, cast(Link, wire))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        made.hub.handle(client, json.dumps({"op": "subscribe", "symbol": symbol}))
    taken(client)
    client.idle = True
    made.hub.publish([Entry(s, NOW_MS, 0, 0, 0, n, json.dumps({"n": n}).encode()) for n, s in enumerate(("BTCUSDT", "ETHUSDT"))])
    [written] = wire.written
    assert written.count(b'"type":"update"') == 2
    assert made.hub.metrics.registry.get_sample_value("klinestream_server_updates_sent_total") == 2
