import itertools
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
import websocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from klinestream.standin.exchange import Settings
from klinestream.standin.session import Rules
from klinestream.standin.weights import Limits
from tests.integration.running_standin import RunningStandin, market, running

KLINE_KEYS = ["t", "T", "s", "i", "f", "L", "o", "c", "h", "l", "v", "n", "x", "q", "V", "Q", "B"]


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


def frames(connection: websocket.WebSocket, count: int) -> list[Any]:
    return [orjson.loads(connection.recv()) for _ in range(count)]


def ask(connection: websocket.WebSocket, method: str, params: list[Any] | None = None, id_: Any = 1) -> Any:
    """Send a request and return its answer, whatever frames come before."""
    connection.send(orjson.dumps({"method": method, "id": id_} | ({} if params is None else {"params": params})).decode())
    while "id" not in (answer := orjson.loads(connection.recv())):
        pass
    return answer


def refused(standin: RunningStandin, path: str) -> int:
    """The HTTP status with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as refusal, connect(standin.ws + path):
        pass
    return refusal.value.response.status_code


def test_closed_seconds(standin: RunningStandin) -> None:
    """A kline_1s stream sends one closed frame a second, right after its end, equal to REST's kline."""
    with standin.connected("/ws/btcusdt@kline_1s") as connection:
        seen = frames(connection, 4)
    klines = [frame["k"] for frame in seen]
    assert [list(frame) for frame in seen] == [["e", "E", "s", "k"]] * 4
    assert [list(kline) for kline in klines] == [KLINE_KEYS] * 4
    assert [kline["t"] for kline in klines] == list(range(klines[0]["t"], klines[0]["t"] + 4000, 1000))
    assert all(kline["x"] and kline["T"] == kline["t"] + 999 for kline in klines)
    assert all(kline["T"] < frame["E"] for frame, kline in zip(seen, klines, strict=True))
    params: dict[str, Any] = {"symbol": "BTCUSDT", "interval": "1s", "startTime": klines[0]["t"], "endTime": klines[-1]["t"]}
    rows = httpx.get(f"{standin.http}/api/v3/klines", params=params, trust_env=False).json()
    assert [[k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"], k["B"]] for k in klines] == rows


def test_all_symbols_in_one_burst(standin: RunningStandin) -> None:
    """The closed seconds of all symbols have one time of sending."""
    names = [f"{symbol.lower()}@kline_1s" for symbol in standin.exchange.market.symbols]
    with standin.connected("/stream?streams=" + "/".join(names)) as connection:
        seen = frames(connection, 2 * len(names))
    assert [frame["stream"] for frame in seen] == names * 2
    assert len({frame["data"]["E"] for frame in seen}) == 2


def test_candles_in_progress(standin: RunningStandin) -> None:
    """Longer intervals are pushed every two seconds and grow as REST's candle does."""
    with standin.connected("/stream?streams=btcusdt@kline_1d/btcusdt@kline_1M") as connection:
        seen = [frame["data"] for frame in frames(connection, 4)]
    days = [frame["k"] for frame in seen if frame["k"]["i"] == "1d"]
    months = [frame["k"] for frame in seen if frame["k"]["i"] == "1M"]
    assert len(days) == len(months) == 2
    assert days[0]["L"] <= days[1]["L"]
    if days[0]["t"] == days[1]["t"] and not days[1]["x"]:
        (row,) = httpx.get(f"{standin.http}/api/v3/klines?symbol=BTCUSDT&interval=1d&limit=1", trust_env=False).json()
        assert [row[0], row[1], row[6]] == [days[1]["t"], days[1]["o"], days[1]["T"]]
        assert row[8] >= days[1]["n"] == days[1]["L"] - days[1]["f"] + 1
        assert float(row[5]) >= float(days[1]["v"]) >= float(days[0]["v"])


def test_trades(standin: RunningStandin) -> None:
    """Trades and aggTrades come as they happen, without a hole in their ids, as REST knows them."""
    with standin.connected("/stream?streams=btcusdt@trade/btcusdt@aggTrade") as connection:
        seen = [frame["data"] for frame in frames(connection, 60)]
    trades = [frame for frame in seen if frame["e"] == "trade"]
    aggregated = [frame for frame in seen if frame["e"] == "aggTrade"]
    assert list(trades[0]) == ["e", "E", "s", "t", "p", "q", "T", "m", "M"]
    assert list(aggregated[0]) == ["e", "E", "s", "a", "p", "q", "f", "l", "T", "m", "M"]
    assert [trade["t"] for trade in trades] == list(range(trades[0]["t"], trades[0]["t"] + len(trades)))
    assert all(later["f"] == earlier["l"] + 1 for earlier, later in itertools.pairwise(aggregated))
    rows = httpx.get(f"{standin.http}/api/v3/aggTrades?symbol=BTCUSDT&fromId={aggregated[0]['a']}&limit={len(aggregated)}", trust_env=False)
    assert [[row["a"], row["p"], row["q"]] for row in rows.json()] == [[trade["a"], trade["p"], trade["q"]] for trade in aggregated]


@pytest.mark.parametrize("speed", ["", "@100ms"])
def test_local_order_book(standin: RunningStandin, speed: str) -> None:
    """The documented way to a local order book works: snapshot, then diffs, and it equals a later snapshot."""
    with standin.connected(f"/ws/btcusdt@depth{speed}") as connection:
        diffs = frames(connection, 1)
        snapshot = httpx.get(f"{standin.http}/api/v3/depth?symbol=BTCUSDT&limit=5000", trust_env=False).json()
        while diffs[-1]["u"] <= snapshot["lastUpdateId"]:
            diffs += frames(connection, 1)
        diffs += frames(connection, 2)
    assert diffs[0]["U"] <= snapshot["lastUpdateId"] + 1
    assert all(later["U"] == earlier["u"] + 1 for earlier, later in itertools.pairwise(diffs))
    sides = {side: dict(snapshot[name]) for side, name in (("b", "bids"), ("a", "asks"))}
    for diff in diffs:
        if diff["u"] > snapshot["lastUpdateId"]:
            for side, levels in sides.items():
                levels.update(dict(diff[side]))
    bids, asks = ({float(p): q for p, q in levels.items() if float(q)} for levels in sides.values())
    assert bids
    assert asks
    assert max(bids) < min(asks)


def test_partial_depth(standin: RunningStandin) -> None:
    """A partial book has its levels, best first, and no symbol."""
    with standin.connected("/stream?streams=ethusdt@depth5@100ms/ethusdt@depth10/ethusdt@depth20@100ms") as connection:
        seen = {frame["stream"]: frame["data"] for frame in frames(connection, 30)}
    assert {name: len(book["bids"]) for name, book in seen.items()} == {
        "ethusdt@depth5@100ms": 5,
        "ethusdt@depth10": 10,
        "ethusdt@depth20@100ms": 20,
    }
    assert all(list(book) == ["lastUpdateId", "bids", "asks"] for book in seen.values())


def test_book_ticker(standin: RunningStandin) -> None:
    """Best prices carry rising update ids and neither type nor time."""
    with standin.connected("/ws/btcusdt@bookTicker") as connection:
        seen = frames(connection, 5)
    assert [list(frame) for frame in seen] == [["u", "s", "b", "B", "a", "A"]] * 5
    assert [frame["u"] for frame in seen] == sorted(frame["u"] for frame in seen)
    assert all(float(frame["b"]) < float(frame["a"]) for frame in seen)


def test_mini_tickers(standin: RunningStandin) -> None:
    """A symbol's ticker comes every second; the array of all holds those that changed."""
    with standin.connected("/stream?streams=btcusdt@miniTicker/!miniTicker@arr") as connection:
        seen = frames(connection, 4)
    one = [frame["data"] for frame in seen if frame["stream"] == "btcusdt@miniTicker"]
    arrays = [frame["data"] for frame in seen if frame["stream"] == "!miniTicker@arr"]
    assert list(one[0]) == ["e", "E", "s", "c", "o", "h", "l", "v", "q"]
    assert one[0]["e"] == "24hrMiniTicker"
    assert "BTCUSDT" in [ticker["s"] for ticker in arrays[0]]
    assert all(1 <= len(array) <= len(standin.exchange.market.symbols) for array in arrays)


def test_microseconds(standin: RunningStandin) -> None:
    """With timeUnit=MICROSECOND all times are µs."""
    with standin.connected("/stream?streams=btcusdt@kline_1s/btcusdt@trade&timeUnit=MICROSECOND") as connection:
        seen = {}
        while len(seen) < 2:
            (frame,) = frames(connection, 1)
            seen[frame["stream"]] = frame["data"]
    kline, trade = seen["btcusdt@kline_1s"]["k"], seen["btcusdt@trade"]
    assert kline["T"] == kline["t"] + 999_999
    assert all(abs(time_us - time.time() * 1e6) < 10e6 for time_us in (kline["t"], seen["btcusdt@kline_1s"]["E"], trade["E"], trade["T"]))


def test_compressed_or_not(standin: RunningStandin) -> None:
    """A client that negotiates permessage-deflate reads the same frames as one that doesn't."""
    path = "/stream?streams=btcusdt@kline_1s/!miniTicker@arr"
    with connect(standin.ws + path) as deflated, standin.connected(path) as plain:
        assert "permessage-deflate" in (deflated.response.headers["Sec-WebSocket-Extensions"] if deflated.response else "")
        assert plain.getheaders().get("sec-websocket-extensions") is None
        ask(plain, "GET_PROPERTY", ["combined"])
        deflated.send('{"method":"LIST_SUBSCRIPTIONS","id":"a"}')
        received = [orjson.loads(deflated.recv(timeout=10)) for _ in range(5)]
        expected = frames(plain, 4)
    assert {"result": ["btcusdt@kline_1s", "!miniTicker@arr"], "id": "a"} in received
    both = [frame for frame in received if frame in expected]
    assert len(both) >= 2


def test_subscribing_on_a_bare_address(standin: RunningStandin) -> None:
    """/ws, /ws/0, /stream and /stream/ open without streams; SUBSCRIBE and UNSUBSCRIBE act at once."""
    for path, combined in (("/ws", False), ("/ws/0", False), ("/stream", True), ("/stream/", True)):
        with standin.connected(path) as connection:
            assert ask(connection, "GET_PROPERTY", ["combined"]) == {"result": combined, "id": 1}
            assert ask(connection, "SUBSCRIBE", ["btcusdt@kline_1s", "btcusdt@kline_1s"], "a-b") == {"result": None, "id": "a-b"}
            (frame,) = frames(connection, 1)
            assert (frame["stream"] if combined else frame["s"].lower() + "@kline_1s") == "btcusdt@kline_1s"
            assert ask(connection, "UNSUBSCRIBE", ["btcusdt@kline_1s"], None) == {"result": None, "id": None}


def test_several_raw_streams(standin: RunningStandin) -> None:
    """/ws/a/b carries both, and SET_PROPERTY wraps them from then on."""
    with standin.connected("/ws/btcusdt@kline_1s/ethusdt@kline_1s") as connection:
        assert {frame["s"] for frame in frames(connection, 2)} == {"BTCUSDT", "ETHUSDT"}
        ask(connection, "SET_PROPERTY", ["combined", True])
        assert {frame["stream"] for frame in frames(connection, 2)} == {"btcusdt@kline_1s", "ethusdt@kline_1s"}


def test_unknown_addresses(standin: RunningStandin) -> None:
    """/stream/nonsense is a 404; an unknown stream leaves the socket open and silent."""
    assert refused(standin, "/stream/nonsense") == 404
    with standin.connected("/ws/nonsense@nothing/BTCUSDT@kline_1s/nobody@trade", timeout_s=1.5) as connection:
        with pytest.raises(websocket.WebSocketTimeoutException):
            connection.recv()
        assert ask(connection, "GET_PROPERTY", ["combined"]) == {"result": False, "id": 1}


def test_too_many_requests(standin: RunningStandin) -> None:
    """The sixth message within a second closes the connection with 1008."""
    with standin.connected("/ws") as connection:
        for number in range(6):
            connection.send(orjson.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}).decode())
        assert [frame["id"] for frame in frames(connection, 5)] == list(range(5))
        opcode, data = connection.recv_data()
    assert (opcode, data) == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xf0Too many requests")


def test_pings_and_pongs() -> None:
    """The server pings with a payload and leaves a client alone that copies it; one that doesn't is closed with 1008."""
    with running(Settings(rules=Rules(ping_ms=300, pong_ms=3000))) as standin:
        with standin.connected("/ws") as good:
            pings = 0
            while pings < 6:
                frame = good.recv_frame()
                assert frame.opcode == websocket.ABNF.OPCODE_PING
                good.pong(frame.data)
                pings += 1
        with standin.connected("/ws") as bad:
            opcodes = [(frame := bad.recv_frame()).opcode]
            while frame.opcode == websocket.ABNF.OPCODE_PING:
                bad.pong(b"something else")
                opcodes.append((frame := bad.recv_frame()).opcode)
    assert (opcodes[-1], frame.data) == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xf0Pong timeout")


def test_session_end() -> None:
    """A connection ends after its time, with a close frame."""
    with running(Settings(rules=Rules(session_ms=500))) as standin, standin.connected("/ws") as connection:
        opcode, data = connection.recv_data()
    assert (opcode, data[2:]) == (websocket.ABNF.OPCODE_CLOSE, b"Session is over")


def test_connection_attempts_are_limited() -> None:
    """Past the limit of attempts an address gets no further websocket."""
    with running(Settings(limits=Limits(connections=2))) as standin:
        for _ in range(2):
            with standin.connected("/ws"):
                pass
        assert refused(standin, "/ws") == 429


def test_too_many_streams_in_the_address(standin: RunningStandin) -> None:
    """An address with more streams than a connection may carry is refused."""
    assert refused(standin, "/ws/" + "/".join(f"{n}@x" for n in range(1025))) == 400


def test_a_slow_client_holds_nobody_up() -> None:
    """A client that doesn't read is disconnected; another gets every second meanwhile."""
    with running(Settings(buffer_bytes=200_000), of=market(30)) as standin:
        names = [
            f"{s.lower()}@{kind}"
            for s in standin.exchange.market.symbols
            for kind in ("trade", "depth20@100ms", "depth@100ms", "bookTicker")
        ]
        path, small = "/stream?streams=" + "/".join(names), [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]
        with standin.connected("/ws/btcusdt@kline_1s") as reading, standin.connected(path, sockopt=small):
            opens = [frames(reading, 1)[0]["k"]["t"]]
            deadline = time.monotonic() + 60
            while len(standin.client.status()["connections"]) == 2:
                assert time.monotonic() < deadline
                opens.append(frames(reading, 1)[0]["k"]["t"])
    assert opens == list(range(opens[0], opens[0] + 1000 * len(opens), 1000))
