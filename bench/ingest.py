"""Records a second that one replica of ingestion takes, each answered when the broker has it; beside an endpoint that drops the body."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from bench.report import Report
from klinestream.runtime.access.patience import PatientHttp
from tests.eventually import eventually
from tests.ingesting import IngestProcess, kline_post, second_ms
from tests.ports import free_ports
from tests.stack import broker_with_topics

SECONDS = 4.0
WARM_S = 0.5
LOADS = ((1, 16), (100, 8), (1000, 4))
"""Records in a request, and connections; each connection posts its symbol's next request when the one before is answered."""
GENEROUS = {"requests_per_s": 100_000, "records_per_s": 10_000_000}
HOURS_S = 43_200


def measure(report: Report, folder: Path) -> None:
    """One load after the other, each on the bare endpoint and on a replica with either client library."""
    with broker_with_topics(folder / "broker") as broker, _bare() as bare:
        for client in ("kafka-python", "confluent-kafka"):
            replica = IngestProcess(broker.bootstrap_servers, folder / f"{client}.log", client, **GENEROUS)
            try:
                replica.start()
                for batch, connections in LOADS:
                    dropped = asyncio.run(_load(bare, batch, connections, keys=False))
                    for keys in (False, True):
                        taken = asyncio.run(_load(replica.port, batch, connections, keys=keys))
                        _row(report, f"{client}, {batch} a request{', keys' if keys else ''}", batch, taken, dropped)
            finally:
                replica.close()
    report.note("bare: FastAPI on the same server that reads the body and drops it, in the same run; the load runs on the same machine")


def _row(report: Report, what: str, batch: int, taken: list[float], dropped: list[float]) -> None:
    rate, bare = batch * len(taken) / SECONDS, batch * len(dropped) / SECONDS
    times = {f"p{share}_ms": float(np.percentile(taken, share)) * 1000 for share in (50, 99)}
    bare_ms = float(np.percentile(dropped, 99)) * 1000
    beside = {"bare_records_per_s": round(bare), "bare_p99_ms": bare_ms, "percent_of_bare": 100 * rate / bare}
    report.row(what, records_per_s=round(rate), **times, **beside)


async def _load(port: int, batch: int, connections: int, *, keys: bool) -> list[float]:
    """Seconds of each request that was answered well after the warm-up."""
    found: list[float] = []
    began_s = time.monotonic() + WARM_S
    await asyncio.gather(*(_connection(port, f"C{number}", batch, began_s, found, keys=keys) for number in range(connections)))
    return found


async def _connection(port: int, symbol: str, batch: int, began_s: float, found: list[float], *, keys: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in _requests(symbol, batch, keys):
        sent_s = time.monotonic()
        if sent_s > began_s + SECONDS:
            break
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 202"), (head, await reader.read(500))
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        if sent_s > began_s:
            found.append(time.monotonic() - sent_s)
    writer.close()
    await writer.wait_closed()


def _requests(symbol: str, batch: int, keys: bool) -> Iterator[bytes]:
    """The next batch of the symbol, over and over; made before they are needed."""
    first_ms = second_ms(HOURS_S)
    parts = range(0, max(1, min(1000, 20_000 // batch)) * batch, batch)
    klines = [[kline_post(symbol, first_ms + n * 1000) for n in range(part, part + batch)] for part in parts]
    bodies = [orjson.dumps(part[0] if batch == 1 else part) for part in klines]
    run = f"{time.time_ns()}-{symbol}"
    head = "POST /api/v1/klines HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    for turn in range(10**9):
        body = bodies[turn % len(bodies)]
        key = f"idempotency-key: {run}-{turn}\r\n" if keys else ""
        yield f"{head}{key}content-length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def _bare() -> Iterator[int]:
    """An endpoint that reads the body and drops it, as a process of its own; its port."""
    [port] = free_ports(1)
    process = subprocess.Popen([sys.executable, "-m", "bench.ingest", str(port)], env=os.environ)
    try:

        def answers() -> bool:
            try:
                return httpx.post(f"http://127.0.0.1:{port}/api/v1/klines", content=b"{}").status_code == 202
            except httpx.TransportError:
                return False

        eventually(answers, 30, "the bare endpoint answers")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _serve_bare(port: int) -> None:
    app = FastAPI()

    @app.post("/api/v1/klines")
    async def drop(request: Request) -> Response:
        await request.body()
        return Response(b"{}", 202, media_type="application/json")

    uvicorn.run(app, port=port, http=PatientHttp, log_level="error", access_log=False)


if __name__ == "__main__":
    _serve_bare(int(sys.argv[1]))
