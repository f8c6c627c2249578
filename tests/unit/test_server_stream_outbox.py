"""What waits for a client of version 2: order, bounds, and honest conflation."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.kinds import RecordKind
from server.outbox import REPLIES_MOST, Moment
from server.stream.encoding import JSON
from server.stream.messages import Cursor, Part
from server.stream.outbox import StreamOutbox, Tick
from server.stream.series import Item, Series

SERIES = (Series(RecordKind.WINDOWS, "BTCUSDT"), Series(RecordKind.CANDLES, "BTCUSDT", "1m"))


def tick(*numbers: int, series: Series = SERIES[0]) -> Tick:
    items = [Item(series, number, 0, 0, 0, number, json.dumps({"n": number}).encode()) for number in numbers]
    return Tick([Part(series, items)], Cursor({series.kind.topic: {0: numbers[-1] + 1}}), Moment())


def taken(outbox: StreamOutbox) -> list[dict[str, Any]]:
    found = []
    while (message := outbox.take()) is not None:
        found.append(json.loads(message.text))
    return found


@given(st.lists(st.tuples(st.sampled_from(SERIES), st.integers(1, 3))), st.integers(1, 4), st.data())
def test_every_record_is_sent_or_counted(sizes: list[tuple[Series, int]], most: int, data: st.DataObject) -> None:
    """Sent records and those told as conflated add up to all; each series' come in order, its newest always, its cursor last."""
    outbox = StreamOutbox(most, JSON)
    messages: list[dict[str, Any]] = []
    given_by: dict[Series, list[int]] = {series: [] for series in SERIES}
    number = 0
    for series, size in sizes:
        numbers = range(number, number + size)
        number += size
        given_by[series] += numbers
        outbox.put(tick(*numbers, series=series))
        if data.draw(st.booleans()) and (message := outbox.take()):
            messages.append(json.loads(message.text))
    messages += taken(outbox)
    cursor: dict[str, dict[str, int]] = {}
    for message in messages:
        cursor |= message["cursor"]
    for series in SERIES:
        parts = [part for message in messages for part in message["series"] if part["kind"] == series.kind]
        sent = [record["n"] for part in parts for record in part["records"]]
        assert len(sent) + sum(part.get("conflated", 0) for part in parts) == len(given_by[series])
        assert sent == sorted(sent)
        assert sent[-1:] == given_by[series][-1:]
        assert cursor.get(series.kind.topic, {"0": 0})["0"] == max(given_by[series], default=-1) + 1
    assert not outbox.updates_wait


def test_of_a_conflated_series_the_newest_counts_not_the_last_read() -> None:
    """A repair of an older record does not push the newest out."""
    outbox = StreamOutbox(1, JSON)
    outbox.put(tick(5))
    series = SERIES[0]
    repair = Item(series, 3, 9, 0, 0, 6, b'{"n":3}')
    outbox.put(Tick([Part(series, [repair])], Cursor({series.kind.topic: {0: 7}}), Moment()))
    [message] = taken(outbox)
    assert message["series"] == [{"kind": "windows", "symbol": "BTCUSDT", "conflated": 1, "records": [{"n": 5}]}]
    assert message["cursor"] == {series.kind.topic: {"0": 7}}


def test_answers_are_made_when_it_is_their_turn_and_come_first() -> None:
    """A heartbeat passes them, updates don't; nothing is made ahead."""
    outbox = StreamOutbox(2, JSON)
    made: list[int] = []

    def answer(*numbers: int) -> Any:
        for number in numbers:
            made.append(number)
            yield json.dumps({"answer": number}).encode()

    outbox.put(tick(1))
    outbox.reply(answer())
    outbox.reply(answer(1, 2))
    assert json.loads(outbox.take().text) == {"answer": 1}  # type: ignore[union-attr]
    assert made == [1]
    outbox.heartbeat(b'{"beat":1}')
    outbox.heartbeat(b'{"beat":2}')
    assert [next(iter(message.items())) for message in taken(outbox)] == [("beat", 2), ("answer", 2), ("type", "update")]


def test_answers_are_bounded() -> None:
    """Beyond that the client is not served any more."""
    outbox = StreamOutbox(1, JSON)
    assert all(outbox.reply(iter(())) for _ in range(REPLIES_MOST))
    assert not outbox.reply(iter(()))


@given(st.integers(1, 3), st.integers(1, 10))
def test_what_waits_for_a_series_can_be_forgotten(most: int, ticks: int) -> None:
    """Conflated or not, nothing of it is sent, and all of the other is."""
    outbox = StreamOutbox(most, JSON)
    for number in range(ticks):
        outbox.put(tick(number))
        outbox.put(tick(number, series=SERIES[1]))
    outbox.forget({SERIES[0]})
    parts = [part for message in taken(outbox) for part in message["series"]]
    assert {part["kind"] for part in parts} == {"candles"}
    assert parts[-1]["records"] == [{"n": ticks - 1}]
