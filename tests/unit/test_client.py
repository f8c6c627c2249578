"""The Python client: what it hands on, what it remembers, and what it says when something is wrong."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from klinestream.cli.watch import _token, cells, line
from klinestream.client import Batch, ClientError, follow, frame
from klinestream.client.address import TOKEN_VARIABLE, authorization, checked, websocket_url
from klinestream.client.follow import _refuse
from klinestream.client.frames import _why
from klinestream.client.session import HELD_MOST, Session
from klinestream.runtime.config import Config
from klinestream.runtime.server_sections import ClientConfig, ServerConfig
from tests.ports import free_ports


def session() -> Session:
    return Session(["BTCUSDT"], ["candles"], ["1m"])


def part(*claims: tuple[int, int], **further: Any) -> dict[str, Any]:
    """A series with records of these times and revisions."""
    return {"kind": "candles", "symbol": "BTCUSDT", "interval": "1m", "records": [{"t": t, "revision": r} for t, r in claims]} | further


def update(*parts: dict[str, Any], **further: Any) -> str:
    return json.dumps({"type": "update", "v": 2, "series": parts} | further)


def snapshot(*claims: tuple[int, int]) -> str:
    return json.dumps({"type": "snapshot", "v": 2, "more": False} | part(*claims))


def claims(batches: list[Batch]) -> list[tuple[int, int]]:
    return [(record["t"], record["revision"]) for batch in batches for record in batch.records]


def test_each_record_is_handed_on_once() -> None:
    """A snapshot after a reconnect brings what is new in it alone, and says that it is fresh; so does a repeat."""
    made = session()
    assert claims(list(made.take(snapshot((1, 0), (2, 0))))) == [(1, 0), (2, 0)]
    assert claims(list(made.take(update(part((2, 0), (3, 0)))))) == [(3, 0)]
    [batch] = made.take(snapshot((3, 0), (5, 0)))
    assert (claims([batch]), batch.fresh) == ([(5, 0)], True)
    assert list(made.take(snapshot((3, 0), (5, 0)))) == []


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=40))
def test_a_record_comes_again_only_if_it_counts_more(found: list[tuple[int, int]]) -> None:
    """Revisions of one record only rise."""
    made = session()
    handed = [claim for each in found for claim in claims(list(made.take(update(part(each)))))]
    for time in range(1, 5):
        revisions = [revision for t, revision in handed if t == time]
        assert revisions == sorted(set(revisions))
        assert revisions[-1:] == [max(r for t, r in found if t == time)] if revisions else time not in dict(found)


def test_of_one_revision_the_candle_of_more_klines_comes() -> None:
    """A candle of fewer klines, which a job told that started within it, takes no whole one's place."""
    made = session()
    told = [{"kind": "candles", "symbol": "BTCUSDT", "interval": "1m", "records": [{"t": 1, "klines": count}]} for count in (7, 60, 7)]
    handed = [record["klines"] for each in told for batch in made.take(update(each)) for record in batch.records]
    assert handed == [7, 60]


def test_the_cursor_is_sent_back() -> None:
    """What messages say of topics and partitions adds up; a first connection has none."""
    made = session()
    assert "cursor" not in json.loads(made.subscribe())
    for cursor in ({"a": {"0": 5, "1": 2}}, {"b": {"0": 1}}, {"a": {"0": 7}}):
        list(made.take(update(cursor=cursor)))
    assert json.loads(made.subscribe())["cursor"] == {"a": {"0": 7, "1": 2}, "b": {"0": 1}}


def test_what_was_left_out_is_told() -> None:
    """A conflated batch says how many."""
    [batch] = session().take(update(part((1, 0), conflated=7)))
    assert batch.conflated == 7


def test_what_is_remembered_is_bounded() -> None:
    """Of a series that many identities at most, the newest."""
    made = session()
    list(made.take(update(part(*((t, 0) for t in range(HELD_MOST + 50))))))
    [held] = made._held.values()
    assert len(held) == HELD_MOST
    assert min(held)[0] == 50


def test_a_refusal_is_an_error_and_a_later_warning_is_not() -> None:
    """Before the subscription stands an error ends it; after that it is something to tell."""
    refusal = json.dumps({"type": "error", "v": 2, "expected": "a", "came": "b", "do": "c"})
    with pytest.raises(ClientError, match="expected a, got b: c"):
        list(session().take(refusal))
    made = session()
    list(made.take('{"type":"subscribed","v":2}'))
    list(made.take(refusal))
    assert made.warning == "the server expected a, got b: c"


@pytest.mark.parametrize("text", ["nonsense", "[]", "{}", '{"type":"snapshot","v":3}'])
def test_what_is_no_message_is_an_error(text: str) -> None:
    """Another server, or another version."""
    with pytest.raises(ClientError, match="expected"):
        list(session().take(text))


def test_a_heartbeat_of_version_1_is_none_of_our_business() -> None:
    """It may come before the subscription is read."""
    assert list(session().take('{"type":"heartbeat","v":1,"server_time":1,"newest_end":null}')) == []


@pytest.mark.parametrize("url", ["localhost:8084", "ftp://localhost", "http://", "http://h:99999", "http://[", ""])
def test_an_address_that_can_be_none_is_refused(url: str) -> None:
    """With what was expected."""
    with pytest.raises(ClientError, match="such as http://localhost:8084"):
        checked(url)


def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    """Both ways say at which address, and what to do."""
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ClientError, match=r"is `klinestream server` running there\?"):
        frame("BTCUSDT", url=url)
    with pytest.raises(ClientError, match=r"is `klinestream server` running there\?"):
        next(follow(["BTCUSDT"], url=url))
    with pytest.raises(ClientError, match="a kind among"):
        frame("BTCUSDT", kind="trades")


def test_another_attempt_is_made_only_where_it_can_help() -> None:
    """Slow clients and ended servers come back; what the server refuses for good is an error."""
    address = websocket_url("http://localhost:8084")

    def closed(code: int, reason: str) -> ConnectionClosedError:
        return ConnectionClosedError(Close(code, reason), None)

    _refuse(closed(1012, "service restart"), address, known=False)
    _refuse(closed(1008, "too slow: nothing was taken for 10 s"), address, known=True)
    _refuse(TimeoutError(), address, known=True)
    with pytest.raises(ClientError, match="too many messages"):
        _refuse(closed(1008, "too many messages: see messages_per_s"), address, known=True)
    _refuse(InvalidStatus(Response(429, "Too Many Requests", Headers())), address, known=False)
    with pytest.raises(ClientError, match="status 404"):
        _refuse(InvalidStatus(Response(404, "Not Found", Headers())), address, known=True)
    with pytest.raises(ClientError, match="set KLINESTREAM_CLIENT__TOKEN"):
        _refuse(InvalidStatus(Response(401, "Unauthorized", Headers())), address, known=True)


def test_a_token_comes_from_the_argument_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument first, an empty one too; one that fits into no header is refused, and not shown."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert authorization(None) == {}
    monkeypatch.setenv(TOKEN_VARIABLE, "of-the-environment")
    assert authorization(None) == {"Authorization": "Bearer of-the-environment"}
    assert authorization("of-the-argument") == {"Authorization": "Bearer of-the-argument"}
    assert authorization("") == {}
    for bad in ("two words", "line\nbreak", "ümlaut"):
        with pytest.raises(ClientError, match="visible ASCII") as raised:
            authorization(bad)
        assert bad not in str(raised.value)


def test_a_watch_shows_the_server_s_token_to_that_server_alone() -> None:
    """Its own goes where it is told to; what the server of the configuration knows, nowhere else."""
    config = Config(server=ServerConfig(tokens=SecretStr("token-of-the-server,another-token-of-it")), client=ClientConfig())
    assert _token(config, elsewhere=False) == "token-of-the-server"
    assert _token(config, elsewhere=True) == ""
    own = Config(server=config.server, client=ClientConfig(token=SecretStr("our-own")))
    assert _token(own, elsewhere=True) == _token(own, elsewhere=False) == "our-own"


def test_the_servers_own_words_are_passed_on() -> None:
    """What it expected and what came; of another server's answer the status."""
    told = {"error": {"status": 422, "expected": "limit: less", "came": "'5000'", "do": "send another value"}}
    assert _why(httpx.Response(422, json=told)) == "expected limit: less, got '5000': send another value"
    assert "status 500" in _why(httpx.Response(500, text="oops"))


WINDOW = {"window_end": 1_790_000_000_500, "close": 2.5, "average_price": 2.4, "volume": 1.0, "rsi": 53.0, "rsi_ready": False}
CANDLE = {"t": 0, "c": "1.0", "o": "2.0", "h": "3.0", "l": "1.0", "v": "5.0", "complete": False}
SIGNAL = {"t": 0, "price": 1.5, "side": "buy", "reason": "RSI 14 fell to 29.4\x1b[2J", "state": "withdrawn"}
INDICATORS = {"t": 0, "c": 1.5, "values": {"rsi_14": 51.5, "sma_50": None, "atr_14": 2.0}, "unready": ["atr_14"]}
QUIET = {"average_price": None, "volume": 0.0, "rsi": None}
BOOK = {"E": 100, "bids": [["1.0", "3.0"]], "asks": [["2.0", "1.0"]], "mid": 1.5, "spread": 1.0, "imbalance": 0.5, "imbalance_20": -0.25}
ONE_SIDED = BOOK | {"asks": [], "mid": None, "spread": None, "imbalance": None, "imbalance_20": None}
PROGRESS = {"T": 59_999, "candles": {"1m": [1.0, 2.0, 0.5, 1.5, 9.0, 9.0, 3, 60]}}


@pytest.mark.parametrize(
    ("kind", "record", "expected"),
    [
        ("windows", WINDOW, "BTCUSDT  windows  09-21 14:13:20.5  2.5  average 2.4  volume 1  RSI 53.00 (not ready)"),
        ("candles", CANDLE, "BTCUSDT  candles  01-01 00:00:00.0  1.0  open 2.0  high 3.0  low 1.0  volume 5.0  incomplete"),
        ("signals", SIGNAL, "BTCUSDT  signals  01-01 00:00:00.0  1.5  buy: RSI 14 fell to 29.4�[2J  withdrawn"),
        ("indicators", INDICATORS, "BTCUSDT  indicators  01-01 00:00:00.0  1.5  rsi_14 51.5  atr_14 2 (not ready)"),
        ("provisional", PROGRESS, "BTCUSDT  provisional  01-01 00:00:59.9  1.5  1m 1→1.5"),
        ("windows", WINDOW | QUIET, "BTCUSDT  windows  09-21 14:13:20.5  2.5  average none  volume 0"),
        ("books", BOOK, "BTCUSDT  books  01-01 00:00:00.1  1.5  bid 1.0 × 3.0  ask 2.0 × 1.0  spread 1  imbalance 0.5  of 20 -0.25"),
        ("books", ONE_SIDED, "BTCUSDT  books  01-01 00:00:00.1  bid 1.0 × 3.0  ask none"),
    ],
)
def test_a_record_is_a_line(kind: str, record: dict[str, Any], expected: str) -> None:
    """Each kind's own; what a terminal would obey is not passed on."""
    batch = Batch(kind, "BTCUSDT", "", [record])
    assert line(batch, record) == expected
    assert len(cells(batch, record)) == 6
