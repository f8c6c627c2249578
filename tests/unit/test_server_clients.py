"""The fan-out's decisions: who gets what, limits, origins, readiness."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.runtime.access.allowances import Allowance
from klinestream.runtime.server_sections import ServerConfig
from server.access.security import CONTENT_SECURITY_POLICY, origin_allowed
from server.candles.store import CandleStore
from server.clients import Client, Closed, Hub
from server.health import FeedState, reasons_not_ready
from server.history import Entry, History
from server.metrics import Metrics
from server.outbox import REPLIES_MOST
from server.stream.stream import Stream

NOW_MS = 1_790_000_000_000


def hub(**settings: Any) -> Hub:
    history = History(120_000, windows_most=1000, symbols_most=100)
    history.begin({0: 0})
    config = ServerConfig(**settings)
    stream = Stream(config, history, CandleStore(1), lambda: NOW_MS)
    return Hub(config, history, stream, Metrics(NOW_MS), lambda: NOW_MS)


def entry(offset: int, symbol: str = "BTCUSDT") -> Entry:
    return Entry(symbol, NOW_MS + 500 * offset, 0, 0, 0, offset, json.dumps({"n": offset}).encode())


def subscribe(symbol: str = "BTCUSDT", cursor: dict[str, int] | None = None) -> str:
    return json.dumps({"op": "subscribe", "symbol": symbol, "cursor": cursor})


def taken(client: Client) -> list[dict[str, Any]]:
    found = []
    while (message := client.outbox.take()) is not None:
        found.append(json.loads(message.text))
    return found


def numbers(message: dict[str, Any]) -> list[int]:
    return [window["n"] for window in message["windows"]]


def test_a_client_gets_the_history_then_what_is_new() -> None:
    """A subscribe is answered by a snapshot; later windows of that symbol follow, of others not."""
    made = hub()
    made.publish([entry(0), entry(1)])
    client = made.join()
    made.handle(client, subscribe())
    made.publish([entry(2), entry(3, "ETHUSDT"), entry(4)])
    snapshot, update = taken(client)
    assert (snapshot["type"], numbers(snapshot), snapshot["cursor"]) == ("snapshot", [0, 1], {"0": 2})
    assert (update["type"], numbers(update), update["cursor"]) == ("update", [2, 4], {"0": 5})


def test_what_is_followed_is_counted() -> None:
    """Symbols and how many follow each; a symbol's first follower and its last one's leave are changes, others are none."""
    made = hub()
    one, other = made.join(), made.join()
    for client in (one, one, other):
        made.handle(client, subscribe())
    made.handle(other, subscribe("NOTHING*"))
    assert made.followers() == {"BTCUSDT": 2, "NOTHING*": 1}
    assert made.changes == 2
    made.leave(one)
    assert made.changes == 2
    made.leave(other)
    assert made.followers() == {}
    assert made.changes == 4


def test_a_cursor_is_answered_by_what_was_missed() -> None:
    """Resuming gives an update, not a snapshot, even if nothing was missed."""
    made = hub()
    made.publish([entry(0), entry(1), entry(2)])
    client = made.join()
    made.handle(client, subscribe(cursor={"0": 1}))
    made.handle(client, subscribe(cursor={"0": 3}))
    assert [(message["type"], numbers(message)) for message in taken(client)] == [("update", [1, 2]), ("update", [])]


def test_a_repeated_record_is_sent_to_nobody() -> None:
    """What the history has already is no news."""
    made = hub()
    client = made.join()
    made.handle(client, subscribe())
    taken(client)
    made.publish([entry(0)])
    made.publish([entry(0)])
    assert len(taken(client)) == 1


def test_each_update_is_encoded_once_for_all() -> None:
    """Clients share the text of an update."""
    made = hub()
    clients = [made.join() for _ in range(3)]
    for client in clients:
        made.handle(client, subscribe())
        taken(client)
    made.publish([entry(0)])
    texts = [client.outbox.take().text for client in clients]  # type: ignore[union-attr]
    assert all(text is texts[0] for text in texts)


def test_who_has_left_gets_nothing() -> None:
    """Unsubscribed and gone clients are forgotten."""
    made = hub()
    staying, gone = made.join(), made.join()
    for client in (staying, gone):
        made.handle(client, subscribe())
        taken(client)
    made.handle(staying, '{"op":"unsubscribe","symbol":"BTCUSDT"}')
    made.leave(gone)
    made.publish([entry(0)])
    assert taken(staying) == taken(gone) == []


def test_too_many_clients_are_told_to_come_later() -> None:
    """Beyond max_clients joining fails with 1013, until somebody leaves."""
    made = hub(max_clients=1)
    client = made.join()
    with pytest.raises(Closed, match="at most 1 client") as caught:
        made.join()
    assert caught.value.code == 1013
    made.leave(client)
    made.join()


def test_too_many_symbols_are_an_error_that_says_so() -> None:
    """Beyond max_subscriptions the answer is an error; the client stays, and may subscribe again to what it has."""
    made = hub(max_subscriptions=1)
    client = made.join()
    for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSDT"):
        made.handle(client, subscribe(symbol))
    assert [message["type"] for message in taken(client)] == ["snapshot", "error", "snapshot"]


def test_nonsense_is_answered_by_what_was_expected() -> None:
    """A message that the protocol does not know gets an error with what was expected and what came."""
    made = hub()
    client = made.join()
    made.handle(client, "nonsense")
    [message] = taken(client)
    assert (message["type"], message["expected"], message["came"]) == ("error", "JSON", "'nonsense'")


def test_who_asks_without_reading_is_closed() -> None:
    """Answers are bounded: then the client is closed, with the reason."""
    made = hub()
    client = made.join()
    for _ in range(REPLIES_MOST):
        made.handle(client, subscribe())
    with pytest.raises(Closed, match="too slow"):
        made.handle(client, subscribe())


def test_another_topic_ends_the_clients_of_the_old_one() -> None:
    """When reading starts anew after windows were read, cursors mean nothing: clients have to come again."""
    made = hub()
    early = made.join()
    made.restart({0: 0})
    assert early.ended is None
    made.publish([entry(0)])
    made.restart({0: 0})
    assert early.ended is not None
    assert early.ended.code == 1012
    assert made.history.symbols() == []


@given(st.floats(0.5, 100), st.lists(st.floats(0, 10), max_size=60))
def test_a_client_never_sends_more_than_its_rate(rate: float, gaps: list[float]) -> None:
    """In any stretch no more messages pass than the burst and the rate allow; one that waits is let through."""
    allowance = Allowance(rate, 0.0)
    now_s, passed = 0.0, 0
    for gap in gaps:
        now_s += gap
        passed += allowance.spend(now_s)
    assert passed <= max(1.0, 2 * rate) + rate * now_s + 1e-6
    assert allowance.spend(now_s + 1 / rate + 1e-6)


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, "localhost:8084", ()),
        ("http://localhost:8084", "localhost:8084", ()),
        ("https://chart.example", "chart.example", ()),
        ("http://LOCALHOST:8084", "localhost:8084", ()),
        ("https://partner.example", "chart.example", ("https://partner.example",)),
    ],
)
def test_the_same_origin_and_the_listed_ones_may_connect(origin: str | None, host: str, allowed: tuple[str, ...]) -> None:
    """No origin is no browser; a scheme may differ behind a proxy."""
    assert origin_allowed(origin, host, allowed)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "localhost:8084"),
        ("http://localhost:9999", "localhost:8084"),
        ("http://localhost:8084.evil.example", "localhost:8084"),
        ("null", "localhost:8084"),
        ("", "localhost:8084"),
        ("", ""),
        ("file://", ""),
        ("ftp://localhost:8084", "localhost:8084"),
        ("http://localhost:8084", None),
    ],
)
def test_other_origins_may_not_connect(origin: str, host: str | None) -> None:
    """A page from elsewhere can't read through its visitor's browser."""
    assert not origin_allowed(origin, host, ("https://partner.example",))


def test_scripts_come_from_here_only() -> None:
    """The policy allows no inline script, no eval, and nothing from elsewhere."""
    rules = dict(rule.split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split("; "))
    assert rules["script-src"] == "'self'"
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"


def test_ready_means_fresh_data_from_a_broker_that_answers() -> None:
    """Each lack has its own reason, and nothing else makes a server unready."""
    ready = FeedState(caught_up=True)
    assert reasons_not_ready(ready, NOW_MS, NOW_MS + 4999, 5.0) == []
    assert reasons_not_ready(ready, NOW_MS, NOW_MS + 7000, 5.0) == ["data: the newest window ended 7.0 s ago, expected at most 5 s"]
    assert reasons_not_ready(ready, None, NOW_MS, 5.0) == ["data: no window has come yet"]
    assert reasons_not_ready(FeedState(), NOW_MS, NOW_MS, 5.0) == ["reader: not caught up with the topic yet"]
    assert reasons_not_ready(FeedState(True, "away"), NOW_MS, NOW_MS, 5.0) == ["broker: away"]
