import itertools
import time
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
import websocket

from klinestream.market.errors import ConfigError, ExchangeError
from klinestream.standin.faults import (
    Drop,
    Garbage,
    Lose,
    Refuse,
    Reorder,
    Repeat,
    Shutdown,
    Silence,
    Slow,
    Withhold,
    read,
)
from klinestream.standin.garbage import Form
from tests.eventually import eventually
from tests.integration.running_standin import RunningStandin, running

BTC, ETH = "btcusdt@kline_1s", "ethusdt@kline_1s"
BOTH = f"/stream?streams={BTC}/{ETH}"


@pytest.fixture(scope="module")
def serving() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture
def standin(serving: RunningStandin) -> Iterator[RunningStandin]:
    """A stand-in without faults and connections."""
    yield serving
    serving.client.clear()
    serving.client.wait(lambda status: not status["connections"])


def second_of(frame: bytes | str) -> tuple[str, int]:
    """Symbol and second of a combined kline frame."""
    data = orjson.loads(frame)["data"]
    return data["s"], data["k"]["t"] // 1000


def drain(connection: websocket.WebSocket) -> None:
    """Read until it breaks."""
    while True:
        connection.recv()


def rest(standin: RunningStandin, path: str) -> httpx.Response:
    return httpx.get(f"{standin.http}/api/v3/{path}", trust_env=False, timeout=20)


def test_drop(standin: RunningStandin) -> None:
    """A dropped connection breaks without a close frame; one that doesn't carry the stream stays."""
    with standin.connected(f"/ws/{BTC}") as btc, standin.connected(f"/ws/{ETH}") as eth:
        standin.client.wait(lambda status: len(status["connections"]) == 2)
        struck = standin.client.inject(Drop(streams="btcusdt@*"))["connections"]
        assert len(struck) == 1
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            drain(btc)
        assert orjson.loads(eth.recv())["s"] == "ETHUSDT"
        (left,) = standin.client.wait(lambda status: len(status["connections"]) == 1)["connections"]
        assert standin.client.inject(Drop(connection=left["number"]))["connections"] == [left["number"]]


def test_silence(standin: RunningStandin) -> None:
    """A silent connection stays open and sends nothing, answers included; what falls in that time is lost."""
    with standin.connected(BOTH) as connection:
        seconds = {second_of(connection.recv())[1]}
        standin.client.inject(Silence(seconds=2.5))
        connection.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        seconds |= {second_of(connection.recv())[1] for _ in range(8)}
    assert max(later - earlier for earlier, later in itertools.pairwise(sorted(seconds))) in (3, 4)


def test_shutdown(standin: RunningStandin) -> None:
    """serverShutdown is announced in both forms, whatever is subscribed, and the close follows."""
    with standin.connected("/ws") as raw, standin.connected("/stream") as combined:
        standin.client.wait(lambda status: len(status["connections"]) == 2)
        announced_s = time.monotonic()
        standin.client.inject(Shutdown(seconds=1))
        event = orjson.loads(raw.recv())
        assert list(event) == ["e", "E"]
        assert event["e"] == "serverShutdown"
        assert orjson.loads(combined.recv()) == {"stream": "!serverShutdown", "data": event}
        opcode, _ = raw.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        assert time.monotonic() - announced_s > 0.9


def test_lose(standin: RunningStandin) -> None:
    """Lost frames of one symbol leave a hole in its seconds, and none in another's; REST has them."""
    with standin.connected(BOTH) as connection:
        first = second_of(connection.recv())[1]
        standin.client.inject(Lose(seconds=1.5, streams="btcusdt@*"))
        seen = [second_of(connection.recv()) for _ in range(8)]
    btc, eth = ([second for symbol, second in seen if symbol == wanted] for wanted in ("BTCUSDT", "ETHUSDT"))
    assert eth == list(range(eth[0], eth[0] + len(eth)))
    missing = set(range(first, btc[-1] + 1)) - set(btc) - {first}
    assert 1 <= len(missing) <= 2
    row = rest(standin, f"klines?symbol=BTCUSDT&interval=1s&startTime={min(missing) * 1000}&limit=1").json()[0]
    assert row[0] == min(missing) * 1000


def test_repeat(standin: RunningStandin) -> None:
    """Each frame comes as often as asked for."""
    standin.client.inject(Repeat(times=3, seconds=30))
    with standin.connected(f"/stream?streams={BTC}") as connection:
        seen = [connection.recv() for _ in range(6)]
    assert [list(group) for _, group in itertools.groupby(seen)] == [seen[:3], seen[3:]]


def test_reorder(standin: RunningStandin) -> None:
    """Each two frames of a stream change places, and nothing is lost when it ends."""
    standin.client.inject(Reorder(seconds=3600))
    with standin.connected(f"/stream?streams={BTC}") as connection:
        seen = [second_of(connection.recv())[1] for _ in range(4)]
        standin.client.clear()
        seen += [second_of(connection.recv())[1] for _ in range(2)]
    first = min(seen)
    assert [second - first for second in seen[:4]] == [1, 0, 3, 2]
    assert sorted(seen) == list(range(first, first + 6))


@pytest.mark.parametrize("form", Form)
def test_garbage(standin: RunningStandin, form: Form) -> None:
    """Each broken form comes beside the real frame, and is none that could be taken for it."""
    standin.client.inject(Garbage(form=form, seconds=30))
    with standin.connected(f"/stream?streams={BTC}") as connection:
        broken, good = connection.recv_frame().data, connection.recv_frame().data
    assert second_of(good)
    try:
        data: Any = orjson.loads(broken)["data"]
    except orjson.JSONDecodeError:
        assert form in (Form.MALFORMED, Form.TRUNCATED, Form.NOT_UTF8)
        return
    real = orjson.loads(good)["data"]
    assert list(data["k"]) == list(real["k"])
    changed = [name for name, value in real["k"].items() if data["k"][name] != value]
    assert "t" in changed


def test_garbage_of_all_forms_at_once(standin: RunningStandin) -> None:
    """With every form active the real frames still come, second after second."""
    with standin.connected(f"/stream?streams={BTC}") as connection:
        for form in Form:
            standin.client.inject(Garbage(form=form, seconds=30))
        whole: list[int] = []
        while len(whole) < 3:
            try:
                whole.append(second_of(connection.recv_frame().data)[1])
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
                continue
    assert whole == sorted(whole)


@pytest.mark.parametrize(("status", "code"), [(429, -1003), (418, -1003), (403, -1002), (503, -1008), (451, 0)])
def test_refuse(standin: RunningStandin, status: Any, code: int) -> None:
    """All of REST answers with the status; limits say when to come back; a restriction refuses websockets too."""
    standin.client.inject(Refuse(status=status, seconds=100))
    answer = rest(standin, "ping")
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert (0 < int(answer.headers["Retry-After"]) <= 100) if status in (418, 429) else "Retry-After" not in answer.headers
    standin.client.clear()
    assert rest(standin, "ping").status_code == 200


def test_withhold(standin: RunningStandin) -> None:
    """Withheld klines and trades of a symbol and a span are missing from answers, and there again afterwards."""
    from_ms = 1_700_000_000_000
    path = f"interval=1s&startTime={from_ms}&limit=5"
    standin.client.inject(Withhold(symbols="BTC*", from_ms=from_ms + 1000, to_ms=from_ms + 3000, seconds=100))
    assert [(row[0] - from_ms) // 1000 for row in rest(standin, f"klines?symbol=BTCUSDT&{path}").json()] == [0, 3, 4]
    assert len(rest(standin, f"klines?symbol=ETHUSDT&{path}").json()) == 5
    standin.client.inject(Withhold(seconds=100))
    assert rest(standin, "trades?symbol=ETHUSDT").json() == []
    assert rest(standin, "aggTrades?symbol=ETHUSDT").json() == []
    standin.client.clear()
    assert len(rest(standin, f"klines?symbol=BTCUSDT&{path}").json()) == 5


def test_slow(standin: RunningStandin) -> None:
    """A slow REST answers late, and right."""
    standin.client.inject(Slow(delay_s=0.5, seconds=100))
    began_s = time.monotonic()
    assert rest(standin, "ping").json() == {}
    assert time.monotonic() - began_s >= 0.5


def test_status_and_metrics(standin: RunningStandin) -> None:
    """Status and metrics tell connections, subscriptions, frames sent and faults under way."""
    before = standin.client.status()["frames_sent"].get("kline", 0)
    standin.client.inject(Lose(streams="nobody@*", seconds=100))
    with standin.connected(f"{BOTH}/btcusdt@trade") as connection:
        status = standin.client.wait(lambda status: status["frames_sent"].get("kline", 0) >= before + 2)
        assert connection.connected
        assert status["subscriptions"] == {"kline": 2, "trade": 1}
        assert [c["streams"] for c in status["connections"]] == [3]
        assert [(fault["kind"], fault["streams"]) for fault in status["faults"]] == [("lose", "nobody@*")]
        metrics = httpx.get(f"{standin.http}/standin/metrics", trust_env=False).text
        assert "standin_connections 1.0" in metrics
        assert 'standin_subscriptions{kind="kline"} 2.0' in metrics


def test_wrong_faults_are_explained(standin: RunningStandin) -> None:
    """A wrong fault is refused with what there is to choose from; so is one that a web page could send unasked."""
    with pytest.raises(ConfigError, match=r"expected a kind of fault \(drop, silence, .*, got 'burn'"):
        read({"kind": "burn"})
    with pytest.raises(ConfigError, match=r"settings of the fault lose \(seconds, streams\): symbol: Extra inputs"):
        read({"kind": "lose", "symbol": "X"})
    url = f"{standin.http}/standin/faults"
    assert httpx.post(url, json={"kind": "lose", "seconds": -1}, trust_env=False).status_code == 422
    assert httpx.post(url, json=[], trust_env=False).status_code == 422
    assert httpx.post(url, content=b"{", headers={"Content-Type": "application/json"}, trust_env=False).status_code == 422
    assert httpx.post(url, content=b'{"kind":"drop"}', headers={"Content-Type": "text/plain"}, trust_env=False).status_code == 415


def test_faults_are_bounded(standin: RunningStandin) -> None:
    """There is a most of faults at once, and the refusal says so."""
    for _ in range(100):
        standin.client.inject(Lose(streams="nobody@*", seconds=100))
    with pytest.raises(ExchangeError, match="at most 100 faults at once"):
        standin.client.inject(Lose(streams="nobody@*", seconds=100))
    standin.client.clear()
    assert standin.client.status()["faults"] == []


def test_faults_end(standin: RunningStandin) -> None:
    """A fault is over after its time."""
    standin.client.inject(Refuse(status=503, seconds=0.3))
    eventually(lambda: rest(standin, "ping").status_code == 200, 10, "REST answers again")
    assert standin.client.status()["faults"] == []
