"""A thousand websocket clients in one process that cost little: `python -m bench.serving_clients <port> <plan> <result>`.

    epoll ─► recvmsg ─► (read at, arrived at, payload)      while it is measured: no JSON, no task, no object a message
    at the end          ─► JSON ─► one row a record         when nothing is measured any more

The kernel notes when bytes arrive at a socket, so that what the clients themselves take is known: read at less arrived at.
Commands come as lines on standard input: `measure` forgets what was kept, `tell` writes the result.
"""

import selectors
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
from websockets.frames import Frame, Opcode

_SO_TIMESTAMPNS = 35  # Linux's; Python names it nowhere
_AT_ONCE = 50
_ANSWER_MOST_S = 60.0
_READ_BYTES = 1 << 18
_LEAST_RECEIVE_BYTES = 4096
_HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Plan(NamedTuple):
    """Who subscribes to what; `stalled` clients read nothing once they have subscribed."""

    symbols: list[str]
    subscriptions: list[list[str]]
    stalled: bool = False

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_bytes(orjson.dumps(self._asdict()))


class Found(NamedTuple):
    """One row a record a client: number of the symbol, window's end, when it was read and when it had arrived."""

    symbols: npt.NDArray[np.int64]
    ends_ms: npt.NDArray[np.int64]
    read_ns: npt.NDArray[np.int64]
    arrived_ns: npt.NDArray[np.int64]
    messages: int
    size: int
    left_out: int
    closed: int
    cpu_share: float

    @classmethod
    def read(cls, path: Path) -> "Found":
        """What a process has written."""
        with np.load(path) as held:
            columns = [held[name] for name in cls._fields[:4]]
            messages, size, left_out, closed, cpu_share = held["counts"].tolist()
        return cls(*columns, int(messages), int(size), int(left_out), int(closed), cpu_share)


@dataclass(eq=False, slots=True)
class _Client:
    """One connection, and what it got."""

    socket: socket.socket
    rest: bytes = b""
    closed: bool = False
    subscribed: bool = False
    kept: list[tuple[int, int, bytes]] = field(default_factory=list)

    def take(self) -> None:
        """Read what is there, answer pings, keep messages."""
        data, ancillary, _, _ = self.socket.recvmsg(_READ_BYTES, 64)
        read_ns = time.time_ns()
        self.closed = self.closed or not data
        arrived_ns = read_ns
        for _, kind, value in ancillary:
            if kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack("qq", value)
                arrived_ns = seconds * 10**9 + nanoseconds
        self.rest += data
        taken = 0
        for opcode, begin, end in _frames(self.rest):
            payload, taken = self.rest[begin:end], end
            if opcode in (Opcode.TEXT, Opcode.BINARY):
                self.kept.append((read_ns, arrived_ns, payload))
                self.subscribed = self.subscribed or b'"subscribed"' in payload
            elif opcode == Opcode.PING:
                self.socket.sendall(Frame(Opcode.PONG, payload).serialize(mask=True))
            elif opcode == Opcode.CLOSE:
                self.closed = True
        self.rest = self.rest[taken:]


def _frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Opcode, begin of the payload, end of the frame: of each whole frame. A server's frames aren't masked."""
    at = 0
    while len(data) >= at + 2:
        opcode, length, header = data[at] & 15, data[at + 1], 2
        if length == 126:
            header, length = 4, int.from_bytes(data[at + 2 : at + 4], "big")
        elif length == 127:
            header, length = 10, int.from_bytes(data[at + 2 : at + 10], "big")
        if len(data) < at + header + length:
            return
        yield opcode, at + header, at + header + length
        at += header + length


def main(port: int, plan_path: Path, result_path: Path) -> None:
    """Connect, subscribe, say so, and listen until told to end."""
    plan = Plan(**orjson.loads(plan_path.read_bytes()))
    clients = [client for begin in range(0, len(plan.subscriptions), _AT_ONCE) for client in _connect(port, plan, begin)]
    for client, symbols in zip(clients, plan.subscriptions, strict=True):
        if symbols:
            message = {"op": "subscribe", "kinds": ["windows"], "symbols": symbols, "limit": 1}
            client.socket.sendall(Frame(Opcode.TEXT, orjson.dumps(message)).serialize(mask=True))
    if plan.stalled:
        print("ready", flush=True)
        sys.stdin.readline()
        return
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    deadline = time.monotonic() + _ANSWER_MOST_S
    asked = [client for client, symbols in zip(clients, plan.subscriptions, strict=True) if symbols]
    while not all(client.subscribed for client in asked) and time.monotonic() < deadline:
        _listen_once(selector)
    print("ready" if all(client.subscribed for client in asked) else "expected an answer to each subscribe", flush=True)
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    began_s, cpu_s = time.monotonic(), time.process_time()
    while True:
        if not _listen_once(selector):
            continue
        command = sys.stdin.readline().strip()
        if command == "tell":
            _write(result_path, plan.symbols, clients, (time.process_time() - cpu_s) / (time.monotonic() - began_s))
            print("told", flush=True)
        elif command != "measure":
            return
        for client in clients:
            client.kept.clear()
        began_s, cpu_s = time.monotonic(), time.process_time()


def _listen_once(selector: selectors.BaseSelector) -> bool:
    """Whether a command has come."""
    commanded = False
    for key, _ in selector.select(0.2):
        if isinstance(key.data, _Client):
            key.data.take()
            if key.data.closed:
                selector.unregister(key.data.socket)
        else:
            commanded = True
    return commanded


def _connect(port: int, plan: Plan, begin: int) -> Iterator[_Client]:
    opened = []
    for _ in plan.subscriptions[begin : begin + _AT_ONCE]:
        connection = socket.socket()
        if plan.stalled:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LEAST_RECEIVE_BYTES)
        elif sys.platform == "linux":
            connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        connection.connect(("127.0.0.1", port))
        connection.sendall(_HANDSHAKE.format(port=port).encode())
        opened.append(connection)
    for connection in opened:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(4096)
            assert more, f"expected a handshake, got {data!r}"
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        yield _Client(connection, rest)


def _write(path: Path, symbols: Sequence[str], clients: Sequence[_Client], cpu_share: float) -> None:
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    rows: list[tuple[int, int, int, int]] = []
    messages = size = left_out = 0
    for client in clients:
        for read_ns, arrived_ns, payload in client.kept:
            messages += 1
            size += len(payload)
            message = orjson.loads(payload)
            for part in message["series"] if message["type"] == "update" else ():
                left_out += part.get("conflated", 0)
                rows += [(numbers[part["symbol"]], record["window_end"], read_ns, arrived_ns) for record in part["records"]]
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    counts = np.array([messages, size, left_out, sum(client.closed for client in clients), cpu_share])
    np.savez(path, **dict(zip(Found._fields, columns, strict=False)), counts=counts)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
