"""Whatever is asked of REST, the answer is one that is documented: never a fault of the program."""

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

import httpx
import orjson
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.errors import BrokerError
from klinestream.market.ledger import Ledger
from klinestream.runtime.kafka import Reader
from klinestream.runtime.server_sections import ServerConfig
from server.app import create_app
from server.exchange.routes import INFO_PARAMS, KLINE_PARAMS
from server.rest.query import LIMIT_MOST

ROUTES = [
    *(f"/api/v1/{name}" for name in ("windows", "candles", "indicators", "signals", "gaps", "symbols", "status")),
    *(f"/api/v1/{name}" for name in ("market", "market/lines", "correlations")),
    *(f"/api/v1/{name}" for name in ("books", "books/BTCUSDT", "books/BTCUSDT/features")),
    *(f"/api/v3/{name}" for name in ("ping", "time", "exchangeInfo", "klines", "uiKlines")),
]
OURS = ("symbol", "interval", "from", "to", "limit", "format", "state", "candles", "symbols", "least", "most")
NAMES = st.sampled_from(sorted({*OURS, *KLINE_PARAMS, *INFO_PARAMS}))
VALUES = st.one_of(
    st.sampled_from(
        ("BTCUSDT", "1m", "1d", "csv", "arrow", "refilled", "TRADING", "", "٣", "1e3", "NaN", "+5", "-0", '["BTCUSDT"]', "5:30")
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(0, LIMIT_MOST + 1).map(str),
    st.text(max_size=60),
    st.binary(max_size=20),
)
STATUSES = {200, 400, 404, 422, 503}


def no_reader() -> Reader:
    raise BrokerError("expected no reading in this test")


def get(server: FastAPI, url: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://here") as client:
            return await client.get(url)

    return asyncio.run(ask())


@given(st.sampled_from(ROUTES), st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_any_query_gets_an_answer_that_is_documented(route: str, query: Sequence[tuple[str, str | bytes]]) -> None:
    """Any value of any parameter: a status that the page names, and its form of an error."""
    server = create_app(ServerConfig(), no_reader, lambda: 1_790_000_000_000, read_gaps=Ledger)
    answer = get(server, f"{route}?" + "&".join(f"{name}={quote(value)}" for name, value in query))
    assert answer.status_code in STATUSES
    if answer.status_code != 200:
        told = orjson.loads(answer.content)
        form = {"code", "msg"} if route.startswith("/api/v3/") else {"status", "expected", "came", "do"}
        assert set(told.get("error", told)) == form
