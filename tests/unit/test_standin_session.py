from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.standin.session import PONG_TIMEOUT, SESSION_OVER, TOO_MANY_REQUESTS, Action, Close, Ping, Pong, Reply, Rules, Session

START_MS = 1_700_000_000_000


def open_session(*, combined: bool = False, streams: Sequence[str] = (), rules: Rules | None = None) -> Session:
    return Session(combined=combined, streams=streams, opened_ms=START_MS, rules=rules or Rules())


def answer(session: Session, message: Any, now_ms: int = START_MS) -> Any:
    raw = message if isinstance(message, bytes) else orjson.dumps(message)
    (reply,) = session.message(raw, now_ms)
    assert isinstance(reply, Reply)
    return orjson.loads(reply.text)


def test_subscribe_and_list() -> None:
    """SUBSCRIBE answers null, and LIST_SUBSCRIPTIONS names the streams in their order."""
    session = open_session(streams=["ethusdt@trade"])
    assert answer(session, {"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade", "btcusdt@depth"], "id": 1}) == {"result": None, "id": 1}
    listed = answer(session, {"method": "LIST_SUBSCRIPTIONS", "id": 3})
    assert listed == {"result": ["ethusdt@trade", "btcusdt@aggTrade", "btcusdt@depth"], "id": 3}


def test_duplicates_are_tolerated() -> None:
    """Subscribing twice is one subscription, and unsubscribing what isn't subscribed is no error."""
    session = open_session(streams=["a@trade"])
    answer(session, {"method": "SUBSCRIBE", "params": ["a@trade", "a@trade"], "id": 1})
    assert list(session.subscriptions) == ["a@trade"]
    assert answer(session, {"method": "UNSUBSCRIBE", "params": ["a@trade", "b@trade"], "id": 2}) == {"result": None, "id": 2}
    assert not session.subscriptions


def test_combined_property() -> None:
    """SET_PROPERTY changes what GET_PROPERTY answers."""
    session = open_session()
    assert answer(session, {"method": "GET_PROPERTY", "params": ["combined"], "id": 2}) == {"result": False, "id": 2}
    assert answer(session, {"method": "SET_PROPERTY", "params": ["combined", True], "id": 5}) == {"result": None, "id": 5}
    assert answer(session, {"method": "GET_PROPERTY", "params": ["combined"], "id": 2}) == {"result": True, "id": 2}


ids = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(codec="utf-8"), max_size=36), st.none())


@given(ids)
def test_ids_come_back(id_: int | str | None) -> None:
    """An int64, a string of up to 36 characters or null comes back as it was."""
    assert answer(open_session(), {"method": "SUBSCRIBE", "params": [], "id": id_}) == {"result": None, "id": id_}


@pytest.mark.parametrize("id_", [1.5, True, "x" * 37, 2**63, [1], {}])
def test_other_ids_are_refused(id_: Any) -> None:
    """Any other id is refused."""
    expected = {"error": {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}, "id": None}
    assert answer(open_session(), {"method": "LIST_SUBSCRIPTIONS", "id": id_}) == expected
    assert answer(open_session(), {"method": "LIST_SUBSCRIPTIONS"}) == expected


@pytest.mark.parametrize(
    ("message", "code", "msg"),
    [
        ({"method": "GET_PROPERTY", "params": ["x"], "id": 4}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["x", True], "id": 4}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 4}, 1, "Invalid value type: expected Boolean"),
        ({"method": "SET_PROPERTY", "params": ["combined"], "id": 4}, 1, "Invalid value type: expected Boolean"),
        ({"method": "SET_PROPERTY", "params": ["combined", True, 1], "id": 4}, 2, "Invalid request: too many parameters"),
        ({"method": "GET_PROPERTY", "params": ["combined", True], "id": 4}, 2, "Invalid request: too many parameters"),
        ({"method": "LIST_SUBSCRIPTIONS", "params": ["x"], "id": 4}, 2, "Invalid request: too many parameters"),
        ({"method": "GET_PROPERTY", "params": [1], "id": 4}, 2, "Invalid request: property name must be a string"),
        ({"method": "GET_PROPERTY", "id": 4}, 2, "Invalid request: property name must be a string"),
        ({"method": "SUBSCRIBE", "id": 4}, 2, "Invalid request: missing field `params`"),
        ({"method": "SUBSCRIBE", "params": [1], "id": 4}, 2, "Invalid request: stream names must be an array of strings"),
        (b'{"params":["btcusdt@trade"],"id":4}', 2, "Invalid request: missing field `method` at line 1 column 35"),
        (
            b'{"id":4,\n"method":"SUBSCRIB"}',
            2,
            "Invalid request: unknown variant `SUBSCRIB`, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, "
            "`SET_PROPERTY`, `GET_PROPERTY` at line 2 column 19",
        ),
    ],
)
def test_errors(message: Any, code: int, msg: str) -> None:
    """A request that can't be carried out is answered with its code, its text and its id."""
    assert answer(open_session(), message) == {"error": {"code": code, "msg": msg}, "id": 4}


@pytest.mark.parametrize("message", [b"", b"{", b"hello", b'{"method":}', b"\xff"])
def test_broken_json(message: bytes) -> None:
    """Broken JSON is answered with code 3 and without an id."""
    reply = answer(open_session(), message)
    assert list(reply) == ["error"]
    assert reply["error"]["code"] == 3
    assert reply["error"]["msg"].startswith("Invalid JSON: expected value at line 1 column ")


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(max_size=9), st.lists, max_leaves=9).map(repr).map(str.encode)
)
def test_any_message_has_an_answer(raw: bytes) -> None:
    """Whatever comes in within the limits is answered, and changes nothing unless it is a request."""
    session = open_session(streams=["a@trade"])
    assert "error" in answer(session, raw)
    assert list(session.subscriptions) == ["a@trade"]


def test_long_request_goes_unanswered() -> None:
    """A SUBSCRIBE of more than 4,096 bytes is neither answered nor obeyed."""
    session = open_session()
    message = {"method": "SUBSCRIBE", "params": [f"symbol{n}usdt@kline_1s" for n in range(200)], "id": 1}
    assert session.message(orjson.dumps(message), START_MS) == ()
    assert not session.subscriptions


def test_too_many_streams() -> None:
    """A connection carries 1,024 streams; a SUBSCRIBE beyond that is refused as a whole."""
    session = open_session(streams=[f"{n}@trade" for n in range(1023)])
    assert answer(session, {"method": "SUBSCRIBE", "params": ["0@trade", "x@trade"], "id": 1}) == {"result": None, "id": 1}
    refused = answer(session, {"method": "SUBSCRIBE", "params": ["y@trade"], "id": 19})
    assert refused == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 19}
    assert len(session.subscriptions) == 1024


@given(st.lists(st.tuples(st.sampled_from(["message", "ping", "pong"]), st.integers(0, 400)), max_size=40))
def test_message_limit(arrivals: list[tuple[str, int]]) -> None:
    """A connection is closed at the first message, ping or pong that is the sixth within a second, and not before."""
    session, now_ms, times = open_session(), START_MS, list[int]()
    for kind, gap_ms in arrivals:
        now_ms += gap_ms
        actions: Sequence[Action] = getattr(session, kind)(b"{}", now_ms)
        times.append(now_ms)
        over = len([t for t in times if t > now_ms - 1000]) > 5
        assert (TOO_MANY_REQUESTS in actions) == over
        if over:
            assert session.closed
            return
    assert not session.closed


def test_ping_is_answered_with_its_payload() -> None:
    """A client's ping comes back as a pong with a copy of its payload."""
    assert open_session().ping(b"abc", START_MS) == (Pong(b"abc"),)


def run(session: Session, until_ms: int, pong_after_ms: int | None) -> tuple[list[int], Close | None, int]:
    """When pings came and what closed the session, when each pong follows its ping by `pong_after_ms`."""
    pings, owed, now_ms = list[int](), list[tuple[int, bytes]](), START_MS
    while now_ms < until_ms:
        now_ms = min([session.due_ms, until_ms] + [at for at, _ in owed])
        while owed and owed[0][0] <= now_ms:
            assert session.pong(owed.pop(0)[1], now_ms) == ()
        for action in session.tick(now_ms):
            if isinstance(action, Close):
                return pings, action, now_ms
            assert isinstance(action, Ping)
            pings.append(now_ms)
            if pong_after_ms is not None:
                owed.append((now_ms + pong_after_ms, action.payload))
    return pings, None, now_ms


@given(st.integers(0, 59_999))
def test_a_client_that_answers_stays(pong_after_ms: int) -> None:
    """Who answers each ping within a minute gets one every 20 s and is never disconnected."""
    pings, close, _ = run(open_session(), START_MS + 600_000, pong_after_ms)
    assert close is None
    assert pings == list(range(START_MS + 20_000, START_MS + 600_001, 20_000))


def test_a_client_that_does_not_answer_goes() -> None:
    """Who owes a pong for a minute is disconnected then."""
    pings, close, when_ms = run(open_session(), START_MS + 600_000, None)
    assert (close, when_ms) == (PONG_TIMEOUT, START_MS + 80_000)
    assert len(pings) == 3


@given(st.binary(max_size=8))
def test_unsolicited_pongs_keep_nothing_alive(payload: bytes) -> None:
    """A pong that copies no ping is allowed, but settles nothing."""
    session = open_session()
    (ping,) = session.tick(START_MS + 20_000)
    assert session.pong(payload, START_MS + 30_000) == ()
    assert ping != Ping(payload)
    session.tick(START_MS + 40_000)
    session.tick(START_MS + 60_000)
    assert session.tick(START_MS + 80_000) == (PONG_TIMEOUT,)


def test_a_later_pong_settles_earlier_pings() -> None:
    """The pong for the newest ping settles the ones before, as RFC 6455 allows a client to answer only that."""
    session = open_session()
    session.tick(START_MS + 20_000)
    (second,) = session.tick(START_MS + 40_000)
    assert isinstance(second, Ping)
    session.pong(second.payload, START_MS + 41_000)
    session.tick(START_MS + 60_000)
    assert session.tick(START_MS + 119_999) == (Ping(str(START_MS + 119_999).encode()),)


def test_session_ends() -> None:
    """A connection ends after its time, however well it answers."""
    session = open_session(rules=Rules(session_ms=90_000))
    _, close, when_ms = run(session, START_MS + 600_000, 100)
    assert (close, when_ms) == (SESSION_OVER, START_MS + 90_000)
    assert session.tick(START_MS + 90_001) == ()
