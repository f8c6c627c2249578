"""A load of made-up records, posted at a rate to one or more replicas; it ends by itself.

Each symbol's requests go out one after the other, the next when the one before is answered, so that their order is kept however many
replicas there are, and each symbol is posted once at least. A request that is told to come again does, under the same key.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import DAY_MS

ROUTES = {"klines": "/api/v1/klines", "trades": "/api/v1/trades", "bars": "/ingest"}
TIMEOUT_S = 30.0
TRIES_MOST = 20
KLINES_BACK_MS = 12 * 3_600_000
_AGAIN = (429, 503)


@dataclass(frozen=True, slots=True)
class Load:
    """What is posted where, how fast and for how long."""

    urls: tuple[str, ...]
    kind: str
    rate: float
    batch: int
    symbols: int
    seconds: float
    source: str
    keys: bool
    token: str = ""


@dataclass(slots=True)
class Outcome:
    """The answers of one replica with one status."""

    url: str
    status: str
    records: int = 0
    late: int = 0
    times: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many."""
        return len(self.times)

    def at(self, share: float) -> float:
        """Seconds within which that share of them was answered."""
        return sorted(self.times)[min(len(self.times) - 1, int(share * len(self.times)))]


def run(load: Load) -> list[Outcome]:
    """Post for `load.seconds`; what came back, by replica and status."""
    return asyncio.run(_run(load))


async def _run(load: Load) -> list[Outcome]:
    found: dict[tuple[str, str], Outcome] = {}
    headers = {"authorization": f"Bearer {load.token}"} if load.token else {}
    limits = httpx.Limits(max_connections=load.symbols)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers, limits=limits) as client, asyncio.TaskGroup() as tasks:
        for number in range(load.symbols):
            tasks.create_task(_symbol(load, number, client, found))
    return sorted(found.values(), key=lambda one: (one.url, one.status))


async def _symbol(load: Load, number: int, client: httpx.AsyncClient, found: dict[tuple[str, str], Outcome]) -> None:
    began_s = time.monotonic()
    every_s = load.batch * load.symbols / load.rate
    urls = itertools.islice(itertools.cycle(load.urls), number, None)
    started = f"{time.time_ns()}-{number}"
    for turn, records in enumerate(_batches(load, number)):
        due_s = began_s + every_s * (turn + number / load.symbols)
        if turn and due_s >= began_s + load.seconds:
            return
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        if turn and time.monotonic() >= began_s + load.seconds:
            return
        await _post(load, client, (urls, f"{started}-{turn}"), records, found)


async def _post(
    load: Load,
    client: httpx.AsyncClient,
    where: tuple[Iterator[str], str],
    records: list[dict[str, Any]],
    found: dict[tuple[str, str], Outcome],
) -> None:
    urls, key = where
    body = orjson.dumps(records[0] if load.batch == 1 else records)
    headers = {"content-type": "application/json"} | ({"idempotency-key": key} if load.keys else {})
    for _ in range(TRIES_MOST):
        url = next(urls)
        began_s = time.monotonic()
        try:
            response = await client.post(url + ROUTES[load.kind], params={"source": load.source}, content=body, headers=headers)
            status, late = str(response.status_code), response.json().get("late") or 0
        except (httpx.HTTPError, ValueError) as error:
            response, status, late = None, type(error).__name__, 0
        outcome = found.setdefault((url, status), Outcome(url, status))
        outcome.times.append(time.monotonic() - began_s)
        outcome.late += late
        if response is not None and response.status_code not in _AGAIN:
            outcome.records += len(records)
            return
        await asyncio.sleep(float(response.headers.get("retry-after", "1")) if response is not None else 0.2)


def _batches(load: Load, number: int) -> Iterator[list[dict[str, Any]]]:
    """A symbol's records in order, `load.batch` at once."""
    made = {"klines": _klines, "trades": _trades, "bars": _bars}[load.kind](f"DEMO{number}")
    while batch := list(itertools.islice(made, load.batch)):
        yield batch


def _klines(symbol: str) -> Iterator[dict[str, Any]]:
    """Seconds from half a day ago on."""
    first_ms = (time.time_ns() // 1_000_000 - KLINES_BACK_MS) // SECOND_MS * SECOND_MS
    for n in itertools.count():
        opened_ms = first_ms + n * SECOND_MS
        if opened_ms + SECOND_MS > time.time_ns() // 1_000_000:
            return
        o, c = _price(n), _price(n + 1)
        yield {
            "s": symbol,
            "t": opened_ms,
            "T": opened_ms + SECOND_MS - 1,
            **dict(zip("ohlcvqVQ", (o, max(o, c), min(o, c), c, "2.00000000", "200.00000000", "1.00000000", "100.00000000"), strict=True)),
            "n": 3,
        }


def _trades(symbol: str) -> Iterator[dict[str, Any]]:
    """Trades of now."""
    first = time.time_ns() // 1000  # so that a second run's ids come after the first one's
    for n in itertools.count():
        time_ms = time.time_ns() // 1_000_000
        yield {"s": symbol, "f": first + n, "p": _price(n), "q": "0.50000000", "T": time_ms, "m": n % 2 == 0}


def _bars(symbol: str) -> Iterator[dict[str, Any]]:
    """Minutes from a day's begin on, as many as there are."""
    first = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS - 300 * DAY_MS
    for n in itertools.count():
        opened_ms = first + n * 60 * SECOND_MS
        o, c = float(_price(n)), float(_price(n + 1))
        yield {
            "stock_symbol": symbol,
            "opening_price": o,
            "closing_price": c,
            "high": max(o, c),
            "low": min(o, c),
            "volume": 1000 + n % 7,
            "timestamp": opened_ms // SECOND_MS,
            "interval": "1m",
        }


def _price(n: int) -> str:
    """A price that goes up and down, with eight decimals."""
    return f"{100 + n % 50 / 10:.8f}"
