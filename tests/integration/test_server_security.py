"""A server beyond localhost, as a process: its tokens, what it knows of addresses behind a proxy, and what no client can make it hold."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from klinestream.client import ClientError, follow, frame
from klinestream.runtime.access import patience
from klinestream.runtime.access.patience import HEAD_MOST_BYTES, PatientHttp
from server.access.connections import FRAGMENTS_MOST, BoundedWebSocket
from server.access.security import HEADERS
from tests.eventually import eventually
from tests.serving import ServerProcess, Windows, now_ms, window_at
from tests.stack import TestBroker

WAIT_S = 20.0
TOKEN, WRONG = "correct-horse-battery", "not-the-right-one"
ANYWHERE = "0.0.0.0"  # noqa: S104  # with tokens, or refused
SYMBOL = "SECUREUSDT"
MORE = 30
"""Requests that meet a limit of 2 a second and 4 at once, unless they take 13 seconds: a busy machine is slow too."""
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def windows(broker: TestBroker) -> Iterator[Windows]:
    opened = Windows(broker.bootstrap_servers)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(broker: TestBroker, windows: Windows, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One with tokens, on all addresses, behind a proxy that is on this machine."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    limits = {"max_clients_per_address": 2, "handshakes_per_s": 2, "requests_per_s": 2}
    started = ServerProcess(
        broker.bootstrap_servers, log, host=ANYWHERE, tokens=f"another-long-token,{TOKEN}", trusted_proxies='["127.0.0.1"]', **limits
    )
    started.start()
    windows.publish([window_at(SYMBOL, now_ms() // 500 * 500, 0)])
    eventually(lambda: SYMBOL in started.http.get("/api/symbols", headers=BEARER | proxied("192.0.2.99")).text, WAIT_S, "windows are read")
    yield started
    started.close()


def proxied(address: str, scheme: str = "http") -> dict[str, str]:
    """What a proxy says of its client."""
    return {"X-Forwarded-For": address, "X-Forwarded-Proto": scheme}


async def opened(server: ServerProcess, **headers: str) -> ClientConnection:
    return await connect(
        server.websocket_url, proxy=None, additional_headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def refused(server: ServerProcess, **headers: str) -> InvalidStatus:
    """How a handshake is refused."""
    with pytest.raises(InvalidStatus) as raised:
        asyncio.run(opened(server, **headers))
    return raised.value


def test_a_websocket_takes_a_token_as_header_or_cookie(server: ServerProcess) -> None:
    """Without one, or with a wrong one, the handshake is answered with 401, what to do, and the strict headers."""
    login = server.http.post("/login", data={"token": TOKEN}, headers=proxied("192.0.2.1", "https"))
    cookie, _, rest = login.headers["set-cookie"].partition(";")
    assert "Secure" in rest
    for headers in (BEARER, {"Cookie": cookie}):

        async def ask(headers: dict[str, str] = headers) -> str:
            async with connect(server.websocket_url, proxy=None, additional_headers=headers) as client:
                await client.send(f'{{"op":"subscribe","symbol":"{SYMBOL}"}}')
                return str(await client.recv())

        assert '"snapshot"' in asyncio.run(ask())
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "klinestream=made-up"}):
        response = refused(server, **headers).response
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert all(name in response.headers for name in HEADERS)
        assert b"docs/operations.md" in (response.body or b"")
    server.http.cookies.clear()


def test_the_python_client_shows_its_token(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of the argument, or of the environment; without one it says what to do."""
    assert frame(SYMBOL, kind="windows", url=server.url, token=TOKEN).height == 1
    assert next(follow([SYMBOL], url=server.url, token=TOKEN)).symbol == SYMBOL
    with pytest.raises(ClientError, match="set KLINESTREAM_CLIENT__TOKEN"):
        next(follow([SYMBOL], url=server.url, token=WRONG))
    with pytest.raises(ClientError, match="a token that this server knows"):
        frame(SYMBOL, kind="windows", url=server.url, token=WRONG)
    monkeypatch.setenv("KLINESTREAM_CLIENT__TOKEN", TOKEN)
    command = [sys.executable, "-m", "klinestream.cli.main", "watch", SYMBOL, "--server", server.url, "--count", "1"]
    watched = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert watched.stdout.startswith(SYMBOL)


def test_clients_behind_a_proxy_are_told_apart(server: ServerProcess) -> None:
    """Each address has its own connections, handshakes and requests; of those before the trusted proxy's word none counts."""

    async def crowd() -> list[int]:
        async def status(address: str) -> int:
            try:
                held.append(await opened(server, **BEARER, **proxied(address)))
            except InvalidStatus as error:
                return error.response.status_code
            return 101

        held: list[ClientConnection] = []
        try:
            # The last of a list is what the proxy itself has seen.
            addresses = ("192.0.2.7", "192.0.2.7", "1.1.1.1, 192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db8::2", "2001:db8::3")
            return [await status(address) for address in addresses]
        finally:
            await asyncio.gather(*(each.close() for each in held))

    assert asyncio.run(crowd()) == [101, 101, 429, 101, 101, 101, 429]

    def ask(address: str) -> int:
        return server.http.get("/api/v3/ping", headers=BEARER | proxied(address)).status_code

    statuses = [ask("192.0.2.10") for _ in range(MORE)]
    assert statuses[:4] == [200] * 4
    assert set(statuses) == {200, 429}
    assert ask("192.0.2.11") == 200
    many = {refused(server, **BEARER, **proxied("192.0.2.12"), Origin="https://evil.example").response.status_code for _ in range(MORE)}
    assert many == {403, 429}


def test_no_token_stands_in_the_log(server: ServerProcess) -> None:
    """Neither a right one nor a wrong one; that one was wrong does."""
    server.http.get("/metrics", headers={"Authorization": "Bearer secret-of-another"})
    server.http.post("/login?token=in-the-address", data={"token": "secret-of-the-form"})
    eventually(lambda: "wrong token" in server.log(), WAIT_S, "a line of the log")
    for secret in (TOKEN, "secret-of-another", "secret-of-the-form", "in-the-address"):
        assert secret not in server.log()


def test_every_answer_has_the_strict_headers(server: ServerProcess) -> None:
    """Pages, refusals, faults of the client, and what is no route."""
    asked = [("GET", "/login"), ("GET", "/"), ("GET", "/nothing"), ("POST", "/chart"), ("GET", "/api/v1/candles"), ("GET", "/static/%00")]
    for method, path in asked:
        for headers in (BEARER, {}):
            answer = server.http.request(method, path, headers=headers | proxied("192.0.2.20"))
            assert HEADERS.keys() <= answer.headers.keys(), (method, path)
            assert answer.headers["cache-control"]
            assert "server" not in answer.headers
            assert answer.status_code < 500


def test_without_a_trusted_proxy_nobody_chooses_an_address(broker: TestBroker, windows: Windows, tmp_path: Path) -> None:
    """Whatever X-Forwarded-For says, the limit of the connection's own address holds; nor does X-Forwarded-Proto count."""
    assert windows is not None  # the topic is there
    started = ServerProcess(broker.bootstrap_servers, tmp_path / "server.log", requests_per_s=2, tokens=TOKEN)
    try:
        started.start()
        statuses = [started.http.get("/api/v3/ping", headers=BEARER | proxied(f"192.0.2.{n}")).status_code for n in range(MORE)]
        assert statuses[:4] == [200] * 4
        assert set(statuses) == {200, 429}
        login = started.http.post("/login", data={"token": TOKEN}, headers=proxied("192.0.2.1", "https"))
        assert "Secure" not in login.headers["set-cookie"]
    finally:
        started.close()


def test_a_server_that_strangers_can_reach_doesn_t_start_without_tokens(broker: TestBroker, tmp_path: Path) -> None:
    """It ends at once, with one clear line."""
    started = ServerProcess(broker.bootstrap_servers, tmp_path / "server.log", host=ANYWHERE)
    try:
        assert started.run_on(started.port) == 1
        [line] = started.log().strip().splitlines()
        assert line.startswith("klinestream: expected tokens, since server.host '0.0.0.0' can be reached from other machines")
    finally:
        started.close()


@asynccontextmanager
async def bare() -> AsyncIterator[int]:
    """A server of nothing but the connections; its port."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=PatientHttp, ws=BoundedWebSocket, h11_max_incomplete_event_size=HEAD_MOST_BYTES, log_config=None, lifespan="off"
    )
    running = uvicorn.Server(config)
    running.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(running._serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        running.should_exit = True
        running.force_exit = True
        await task


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side ends it."""
    async with asyncio.timeout(WAIT_S):
        try:
            return await reader.read(-1)
        except ConnectionError:
            return b""


SLOW = {
    "nothing": b"",
    "half a head": b"GET / HTTP/1.1\r\nHost: h\r\n",
    "half a body": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_a_request_that_doesn_t_come_whole_is_not_waited_for(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one of which a byte comes now and then."""
    monkeypatch.setattr(patience, "HEAD_MOST_S", 0.3)

    async def trickle() -> None:
        async with bare() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            ending = asyncio.create_task(ended(reader))
            while not ending.done():
                if sent:
                    writer.write(b"x")
                await asyncio.wait([ending], timeout=0.05)
            await ending
            writer.close()

    asyncio.run(trickle())


def test_a_request_that_comes_in_time_is_answered_and_the_next_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends with each whole request: a connection lives longer than that."""
    monkeypatch.setattr(patience, "HEAD_MOST_S", 0.3)

    async def ask() -> list[int]:
        async with bare() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            statuses = []
            for _ in range(3):
                statuses.append((await client.get("/")).status_code)
                await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.2)
            return statuses

    assert asyncio.run(ask()) == [204] * 3


@pytest.mark.parametrize("head", [b"GET /" + b"x" * HEAD_MOST_BYTES, b"GET / HTTP/1.1\r\nx: " + b"x" * HEAD_MOST_BYTES])
def test_a_head_without_end_is_refused(head: bytes) -> None:
    """However it is filled."""

    async def send() -> bytes:
        async with bare() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            answer = await ended(reader)
            writer.close()
            return answer

    assert asyncio.run(send()).startswith(b"HTTP/1.1 400 ")


def flood(frames: bytes, times: int) -> None:
    """Send frames on a websocket, and take nothing, until the server ends it."""

    async def send() -> None:
        async with bare() as port, asyncio.timeout(WAIT_S):
            client = await connect(f"ws://127.0.0.1:{port}/", proxy=None, max_queue=1)
            client.transport.pause_reading()
            try:
                for _ in range(times):
                    client.transport.write(frames)
                    while client.transport.get_write_buffer_size() > len(frames):
                        await asyncio.wait([asyncio.create_task(client.wait_closed())], timeout=0.01)
                        if client.transport.is_closing():
                            return
                client.transport.resume_reading()
                await client.wait_closed()
            except ConnectionClosed:
                pass
            finally:
                client.transport.abort()

    asyncio.run(send())


def test_a_message_in_endless_parts_ends_its_connection() -> None:
    """Empty ones, which no limit of bytes would ever meet."""
    first = Frame(Opcode.TEXT, b"x", fin=False).serialize(mask=True)
    flood(first + Frame(Opcode.CONT, b"", fin=False).serialize(mask=True) * FRAGMENTS_MOST, 1)


def test_pings_whose_answers_nobody_takes_end_their_connection() -> None:
    """Before the answers fill the memory."""
    flood(Frame(Opcode.PING, b"x" * 125).serialize(mask=True) * 1000, 1000)
