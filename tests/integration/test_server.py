"""The server as a process, a real broker, and real websocket clients."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from klinestream.market.codec import encode_event
from klinestream.market.topics import WINDOWS
from tests.eventually import eventually
from tests.serving import ServerProcess, Windows, ends_between, now_ms, window_at
from tests.stack import TestBroker

WAIT_S = 20.0


@pytest.fixture(scope="module")
def windows(broker: TestBroker) -> Iterator[Windows]:
    opened = Windows(broker.bootstrap_servers)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(broker: TestBroker, windows: Windows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One that most tests share; its limits are low enough to be met."""
    assert windows is not None  # the topic is there
    log = tmp_path_factory.mktemp("server") / "server.log"
    started = ServerProcess(
        broker.bootstrap_servers, log, max_subscriptions=3, max_clients=20, messages_per_s=10, allowed_origins='["https://partner.example"]'
    )
    started.start()
    yield started
    started.close()


@pytest.fixture
def own_server(broker: TestBroker, windows: Windows, tmp_path: Path) -> Iterator[ServerProcess]:
    """One that a test may stop and start."""
    assert windows is not None
    started = ServerProcess(broker.bootstrap_servers, tmp_path / "server.log", stale_after_s=2, client_queue=4, kafka__connect_timeout_s=2)
    yield started
    started.close()


@asynccontextmanager
async def client(server: ServerProcess, **settings: Any) -> AsyncIterator[ClientConnection]:
    async with connect(server.websocket_url, proxy=None, **settings) as opened:
        yield opened


async def subscribe(opened: ClientConnection, symbol: str, cursor: dict[str, int] | None = None) -> dict[str, Any]:
    """Subscribe; the answer."""
    await opened.send(json.dumps({"op": "subscribe", "symbol": symbol, "cursor": cursor}))
    return await message(opened, "snapshot", "update", "error")


async def message(opened: ClientConnection, *kinds: str) -> dict[str, Any]:
    """The next message of these kinds."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found: dict[str, Any] = json.loads(await opened.recv())
            assert found["v"] == 1
            if found["type"] in kinds:
                return found


async def closing(opened: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the server ends the connection."""
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await opened.recv()
    assert opened.close_code is not None
    assert opened.close_reason is not None
    return opened.close_code, opened.close_reason


def ends(found: dict[str, Any]) -> list[int]:
    return [window["window_end"] for window in found["windows"]]


def known(server: ServerProcess, symbol: str) -> bool:
    return symbol in server.http.get("/api/symbols").json()["symbols"]


def metric(server: ServerProcess, line_start: str) -> float:
    lines = [line for line in server.http.get("/metrics").text.splitlines() if line.startswith(line_start)]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0


def test_a_client_gets_the_very_records_of_the_topic(server: ServerProcess, windows: Windows) -> None:
    """History in order of time, then new windows as they come, each once, with cursors that go on."""
    now, symbol = now_ms(), "RECORDSUSDT"
    since = now - 60_000
    history = [window_at(symbol, end, since) for end in ends_between(now - 20_000, now - 5000)]
    windows.publish(history)
    eventually(lambda: known(server, symbol), WAIT_S, f"{symbol} is in the history")

    async def follow() -> None:
        async with client(server) as opened:
            snapshot = await subscribe(opened, symbol)
            assert snapshot["type"] == "snapshot"
            assert ends(snapshot) == [window.end_ms for window in history]
            assert snapshot["windows"][0]["average_price"] == history[0].average_price
            later = window_at(symbol, history[-1].end_ms + 500, since)
            await asyncio.to_thread(windows.publish, [history[-1], later])
            update = await message(opened, "update")
            assert ends(update) == [later.end_ms]
            [(partition, before)] = snapshot["cursor"].items()
            assert update["cursor"] == {partition: before + 2}

    asyncio.run(follow())


def test_resuming_gives_exactly_what_was_missed(server: ServerProcess, windows: Windows) -> None:
    """A client that comes back with its cursor gets the windows in between, and only those; without one it gets all."""
    now, symbol = now_ms(), "RESUMEUSDT"
    all_ends = list(ends_between(now - 20_000, now - 5000))
    windows.publish([window_at(symbol, end, 0) for end in all_ends[:10]])
    eventually(lambda: known(server, symbol), WAIT_S, f"{symbol} is in the history")

    async def come_back() -> None:
        async with client(server) as opened:
            cursor = (await subscribe(opened, symbol))["cursor"]
            await asyncio.to_thread(windows.publish, [window_at(symbol, all_ends[10], 0)])
            assert ends(await message(opened, "update")) == [all_ends[10]]
        await asyncio.to_thread(windows.publish, [window_at(symbol, end, 0) for end in all_ends[11:]])
        async with client(server) as other:
            resumed = await subscribe(other, symbol, cursor)
            assert resumed["type"] == "update"
            got = ends(resumed)
            while len(got) < len(all_ends) - 10:
                got += ends(await message(other, "update"))
            assert got == all_ends[10:]
            assert (await subscribe(other, symbol, {"0": 10**12}))["type"] == "snapshot"

    asyncio.run(come_back())


def test_a_repair_replaces_and_a_later_run_does_not(server: ServerProcess, windows: Windows) -> None:
    """Of several records of a window clients get the highest revision, then the earliest since."""
    end, symbol = now_ms() // 500 * 500, "REPAIRUSDT"
    windows.publish([window_at(symbol, end, 5000), window_at(symbol, end, 9000), window_at(symbol, end, 7000, revision=1)])
    eventually(lambda: known(server, symbol), WAIT_S, f"{symbol} is in the history")

    async def look() -> list[tuple[int, int]]:
        async with client(server) as opened:
            return [(window["revision"], window["since"]) for window in (await subscribe(opened, symbol))["windows"]]

    eventually(lambda: asyncio.run(look()) == [(1, 7000)], WAIT_S, "the repaired window alone")


def test_garbage_in_the_topic_harms_nothing_and_is_counted(server: ServerProcess, windows: Windows) -> None:
    """Records that are no windows are counted and logged with their place; those around them arrive."""
    before = metric(server, "klinestream_server_records_rejected_total")
    now, symbol = now_ms(), "GARBAGEUSDT"
    windows.raw(symbol.encode(), [b"\xff\x00", b"{}", b"[" * 3000, b'{"symbol":"GARBAGEUSDT","window_end":4102444800000}'], now)
    windows.publish([window_at(symbol, now // 500 * 500, 0)])
    eventually(lambda: known(server, symbol), WAIT_S, f"{symbol} is in the history")
    assert metric(server, "klinestream_server_records_rejected_total") == before + 4
    assert "record is no window" in server.log()


def test_heartbeats_tell_the_servers_time(server: ServerProcess) -> None:
    """Without any subscription a client hears from the server every two seconds."""

    async def listen() -> None:
        async with client(server) as opened:
            first, second = await message(opened, "heartbeat"), await message(opened, "heartbeat")
            assert 1000 < second["server_time"] - first["server_time"] < 10_000
            assert abs(second["server_time"] - now_ms()) < 5000

    asyncio.run(listen())


def test_a_wrong_message_is_answered_and_the_client_stays(server: ServerProcess) -> None:
    """Errors say what was expected and what came; limits on symbols too."""

    async def err() -> None:
        async with client(server) as opened:
            await opened.send('{"op":"dance"}')
            error = await message(opened, "error")
            assert "subscribe" in error["expected"]
            assert error["came"] == "'dance'"
            kinds = [(await subscribe(opened, f"COIN{n}"))["type"] for n in range(4)]
            assert kinds == ["snapshot", "snapshot", "snapshot", "error"]

    asyncio.run(err())


def test_too_much_is_closed_with_a_reason(server: ServerProcess) -> None:
    """A message too large, in bytes, or too many of them end the connection, and tell why."""

    async def large() -> tuple[int, str]:
        async with client(server) as opened:
            await opened.send("x" * 5000)
            return await closing(opened)

    async def binary() -> tuple[int, str]:
        async with client(server) as opened:
            await opened.send(b"{}")
            return await closing(opened)

    async def many() -> tuple[int, str]:
        async with client(server) as opened:
            try:
                for _ in range(60):
                    await opened.send('{"op":"unsubscribe","symbol":"A"}')
            except ConnectionClosed:
                pass
            return await closing(opened)

    assert asyncio.run(large())[0] == 1009
    assert asyncio.run(binary()) == (1008, "binary message: expected text")
    assert asyncio.run(many()) == (1008, "too many messages: see messages_per_s")


def test_too_many_clients_are_sent_away(server: ServerProcess) -> None:
    """Beyond max_clients a connection is closed with 1013; others are not touched."""

    async def crowd() -> None:
        async with asyncio.TaskGroup() as tasks:
            opening = [tasks.create_task(connect(server.websocket_url, proxy=None).__aenter__()) for _ in range(20)]
        crowd = [task.result() for task in opening]
        try:
            async with client(server) as late:
                code, reason = await closing(late)
                assert code == 1013
                assert "at most 20 clients" in reason
            assert (await subscribe(crowd[0], "ANYUSDT"))["type"] == "snapshot"
        finally:
            await asyncio.gather(*(opened.close() for opened in crowd))

    eventually(lambda: metric(server, "klinestream_server_clients ") == 0, WAIT_S, "no client is left from before")
    asyncio.run(crowd())


def test_only_known_origins_may_connect(server: ServerProcess) -> None:
    """A browser on another page is refused with 403; the page's own and the listed one are let in."""

    async def open_from(origin: str) -> None:
        async with client(server, origin=websockets.Origin(origin)):
            pass

    asyncio.run(open_from(server.url))
    asyncio.run(open_from("https://partner.example"))
    with pytest.raises(InvalidStatus, match="403"):
        asyncio.run(open_from("https://evil.example"))


def test_the_page_and_its_library_are_served_with_strict_headers(server: ServerProcess) -> None:
    """The root leads to the chart; all carry the policy; plotly.js comes from here, packed, and is cached."""
    assert server.http.get("/").headers["location"] == "/chart"
    chart = server.http.get("/chart")
    assert "script-src 'self';" in chart.headers["content-security-policy"]
    assert chart.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in chart.text
    library = server.http.get("/vendor/plotly.min.js")
    assert library.headers["content-encoding"] == "gzip"
    assert "max-age" in library.headers["cache-control"]
    assert server.http.get("/vendor/plotly.min.js", headers={"if-none-match": library.headers["etag"]}).status_code == 304
    module = server.http.get("/static/js/main.js")
    assert module.headers["cache-control"] == "no-cache"
    assert server.http.get("/static/js/main.js", headers={"if-none-match": module.headers["etag"]}).status_code == 304
    assert server.http.get("/static/../pyproject.toml").status_code == 404


def test_metrics_tell_what_was_read_and_sent(server: ServerProcess, windows: Windows) -> None:
    """Windows read, updates sent, their latency, the data's age and the lag by partition."""
    symbol, end = "METRICUSDT", now_ms() // 500 * 500

    async def follow() -> None:
        async with client(server) as opened:
            await subscribe(opened, symbol)
            await asyncio.to_thread(windows.publish, [window_at(symbol, end, 0)])
            await message(opened, "update")

    asyncio.run(follow())
    assert metric(server, "klinestream_server_windows_read_total") > 0
    assert metric(server, "klinestream_server_updates_sent_total") > 0
    assert metric(server, "klinestream_server_published_to_sent_seconds_count") > 0
    assert metric(server, "klinestream_server_encode_seconds_count") > 0
    text = server.http.get("/metrics").text
    assert all(f'klinestream_server_lag_records{{partition="{partition}"}}' in text for partition in range(WINDOWS.partitions))


def test_ready_follows_the_data(own_server: ServerProcess, windows: Windows) -> None:
    """A server is ready while windows come, and says 503 with the reason when they stop."""
    own_server.start()
    with windows.running({"READYUSDT": 1.0}, history_s=5):
        eventually(own_server.ready, WAIT_S, "ready while windows come")
    eventually(lambda: not own_server.ready(), WAIT_S, "unready when they have stopped")
    answer = own_server.http.get("/readyz")
    assert answer.status_code == 503
    assert any("the newest window ended" in reason for reason in answer.json()["reasons"])


def test_a_signal_ends_the_server_and_tells_the_clients(own_server: ServerProcess) -> None:
    """SIGTERM closes websockets with 1012 (come again) and the process ends cleanly, one that reads nothing or not."""
    own_server.start()

    async def stay() -> tuple[int, str]:
        async with client(own_server) as opened, client(own_server):
            await subscribe(opened, "ANYUSDT")
            stopping = asyncio.create_task(asyncio.to_thread(own_server.stop))
            end = await closing(opened)
            async with asyncio.timeout(WAIT_S):
                assert await stopping == 0
            return end

    assert asyncio.run(stay())[0] == 1012


def test_a_taken_port_is_one_clear_line(own_server: ServerProcess, server: ServerProcess) -> None:
    """A server that can't listen says on which address, and what to do."""
    assert own_server.run_on(server.port) == 1
    assert own_server.log().strip().splitlines()[-1].startswith(f"klinestream: expected to listen on 127.0.0.1:{server.port}")


def test_a_client_that_reads_nothing_is_conflated_then_closed(own_server: ServerProcess, windows: Windows) -> None:
    """What waits for a slow client stays bounded; in the end it is closed with a reason, and others never notice."""
    own_server.start()
    symbol = "SLOWUSDT"
    # Each a higher revision of the same window, and large, so that a few thousand fill what the sockets hold.
    record = {**orjson.loads(encode_event(window_at(symbol, now_ms() // 500 * 500, 0))), "later": "x" * 3000}
    revisions = count(1)

    def publish() -> None:
        values = [orjson.dumps({**record, "revision": next(revisions)}) for _ in range(1000)]
        windows.raw(symbol.encode(), values, now_ms())

    async def starve() -> None:
        async with client(own_server, max_queue=1, max_size=None) as slow, client(own_server, max_size=None) as quick:
            await subscribe(slow, symbol)
            await subscribe(quick, symbol)
            deadline = asyncio.get_running_loop().time() + 60
            while not metric(own_server, "klinestream_server_clients_closed_total"):
                await asyncio.to_thread(publish)
                await message(quick, "update")
                assert asyncio.get_running_loop().time() < deadline
            code, reason = await closing(slow)
            assert (code, reason.partition(":")[0]) == (1008, "too slow")
            await subscribe(quick, symbol)
            assert (await message(quick, "snapshot"))["type"] == "snapshot"

    asyncio.run(starve())
    assert metric(own_server, "klinestream_server_windows_conflated_total") > 0


def test_a_broker_that_restarts_is_survived_without_repeats(own_server: ServerProcess, broker: TestBroker, windows: Windows) -> None:
    """While the broker is down the server answers and says so; then it goes on where it was, its clients connected, nothing twice."""
    symbol, since = "BROKERUSDT", 0
    own_server.start()
    end = now_ms() // 500 * 500
    windows.publish([window_at(symbol, end, since)])
    eventually(lambda: known(own_server, symbol), WAIT_S, f"{symbol} is in the history")

    async def hold_on() -> None:
        async with client(own_server) as opened:
            await subscribe(opened, symbol)
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(eventually, lambda: broker_fault(own_server), 60, "readyz tells that the broker is away")
            await asyncio.to_thread(broker.start)
            await asyncio.to_thread(eventually, lambda: not broker_fault(own_server), 60, "readyz tells that the broker is back")
            await asyncio.to_thread(windows.publish, [window_at(symbol, end + 500 * n, since) for n in (1, 2)])
            got: list[int] = []
            while len(got) < 2:
                got += ends(await message(opened, "update"))
            assert got == [end + 500, end + 1000]

    asyncio.run(hold_on())


def broker_fault(server: ServerProcess) -> bool:
    return any(reason.startswith("broker:") for reason in server.http.get("/readyz").json()["reasons"])
