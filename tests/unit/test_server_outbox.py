"""What waits for a client: order, bounds, and honest conflation."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server import protocol
from server.outbox import REPLIES_MOST, Outbox, Update

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def update(symbol: str, *numbers: int) -> Update:
    values = tuple(json.dumps({"n": number}).encode() for number in numbers)
    cursor = {0: numbers[-1] + 1}
    return Update(symbol, values, cursor, protocol.update(symbol, values, cursor), numbers[-1], None)


def taken(outbox: Outbox) -> list[dict[str, Any]]:
    found = []
    while (message := outbox.take()) is not None:
        found.append(json.loads(message.text))
    return found


@given(st.lists(st.tuples(st.sampled_from(SYMBOLS), st.integers(1, 3))), st.integers(1, 4), st.data())
def test_every_window_is_sent_or_counted(sizes: list[tuple[str, int]], most: int, data: st.DataObject) -> None:
    """Sent windows and those told as conflated add up to all; each symbol's come in order, and its newest always comes."""
    outbox = Outbox(most)
    messages: list[dict[str, Any]] = []
    given_by: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
    number = 0
    for symbol, size in sizes:
        numbers = range(number, number + size)
        number += size
        given_by[symbol] += numbers
        outbox.put(update(symbol, *numbers))
        if data.draw(st.booleans()) and (message := outbox.take()):
            messages.append(json.loads(message.text))
    messages += taken(outbox)
    for symbol in SYMBOLS:
        own = [message for message in messages if message["symbol"] == symbol]
        sent = [window["n"] for message in own for window in message["windows"]]
        left_out = sum(message.get("conflated", 0) for message in own)
        assert len(sent) + left_out == len(given_by[symbol])
        assert sent == sorted(sent)
        assert sent[-1:] == given_by[symbol][-1:]
    assert outbox.conflated == sum(message.get("conflated", 0) for message in messages)


@given(st.lists(st.sampled_from(SYMBOLS), max_size=200), st.integers(1, 5))
def test_what_waits_is_bounded(symbols: list[str], most: int) -> None:
    """However much is put, no more waits than the queue holds, or one message a symbol."""
    outbox = Outbox(most)
    for number, symbol in enumerate(symbols):
        outbox.put(update(symbol, number))
    assert len(taken(outbox)) <= max(most, len(SYMBOLS))


def test_a_quick_client_gets_each_update_as_it_was_made() -> None:
    """Without a full queue the very text that all clients share is sent."""
    outbox = Outbox(2)
    first, second = update("BTCUSDT", 1, 2), update("ETHUSDT", 3)
    outbox.put(first)
    outbox.put(second)
    assert outbox.take().text is first.text  # type: ignore[union-attr]
    assert outbox.take().text is second.text  # type: ignore[union-attr]
    assert outbox.take() is None


def test_a_slow_client_gets_the_newest_window_and_how_many_it_missed() -> None:
    """Conflation keeps the newest window of each symbol, its cursor, and counts the rest."""
    outbox = Outbox(1)
    for number in range(4):
        outbox.put(update("BTCUSDT", number))
    [message] = taken(outbox)
    assert message["windows"] == [{"n": 3}]
    assert message["conflated"] == 3
    assert message["cursor"] == {"0": 4}


def test_a_client_that_has_caught_up_is_not_conflated_any_more() -> None:
    """Once the outbox is empty, updates are whole again."""
    outbox = Outbox(1)
    for number in range(3):
        outbox.put(update("BTCUSDT", number))
    taken(outbox)
    outbox.put(update("BTCUSDT", 3, 4))
    assert [len(message["windows"]) for message in taken(outbox)] == [2]


def test_answers_are_bounded() -> None:
    """A client that asks without reading is refused at some point."""
    outbox = Outbox(1)
    assert all(outbox.reply("answer") for _ in range(REPLIES_MOST))
    assert not outbox.reply("one more")


def test_only_the_newest_heartbeat_waits() -> None:
    """Heartbeats replace each other."""
    outbox = Outbox(1)
    outbox.heartbeat('{"n":1}')
    outbox.heartbeat('{"n":2}')
    assert taken(outbox) == [{"n": 2}]


def test_what_waits_for_a_symbol_can_be_forgotten() -> None:
    """Updates of a symbol that was left, or gets a whole snapshot, are dropped; others stay."""
    outbox = Outbox(2)
    outbox.put(update("BTCUSDT", 1))
    outbox.put(update("ETHUSDT", 2))
    outbox.forget("BTCUSDT")
    assert [message["symbol"] for message in taken(outbox)] == ["ETHUSDT"]
