"""The routes that take records: from a request's bytes to `Intake` and back. Nothing here decides what is taken."""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from klinestream.ingest.bars import BarRules, bars
from klinestream.ingest.bodies import form_of, values_of
from klinestream.ingest.documents import answers, body_of
from klinestream.ingest.gate import CLIENT, SOURCE
from klinestream.ingest.intake import Answer, Intake, Named
from klinestream.ingest.models import BarPost, KlinePost, TradePost
from klinestream.ingest.posted import Asked, Posted, klines, source_of, trades
from klinestream.ingest.refusals import PostError, shown
from klinestream.runtime.access.allowances import Allowances
from klinestream.runtime.ingest_section import IngestConfig

INLINE_MOST_BYTES = 32 * 1024
"""Longer bodies are checked in a thread, so that short ones needn't wait for them."""
AT_ONCE = 2
BODIES_MOST_BYTES = 64 << 20
"""All bodies together that are on their way in, or wait to be checked; one of `body_mib` always has room."""
ACCEPTED = 202
KEY_HEADER = "idempotency-key"
REPLAYED_HEADER = "idempotency-replayed"
_KEY = re.compile(r"[!-~]{1,100}")
_RETRY_S = 1
_LATER = "wait as Retry-After says, then send the same again"

Source = Annotated[
    str | None, Query(description="Whose records these are, put before each symbol: up to 16 letters and digits.", examples=["stocks"])
]
_INTERVAL = "Length of bars that don't say."
_ALIGN = "Of a bar that begins within a candle: refuse, or round down."
_HOLES = "Between bars: indicators begin anew, or nothing was traded."
Read = Callable[[Sequence[object], Asked], Posted]


class Door:
    """What all three routes do with a request."""

    def __init__(self, config: IngestConfig, intake: Intake, now_ms: Callable[[], int]) -> None:
        """For one replica."""
        self._config = config
        self._intake = intake
        self._now_ms = now_ms
        self._records = Allowances(config.records_per_s)
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._bodies_most = max(BODIES_MOST_BYTES, config.body_mib << 20)
        self._bodies = 0

    async def take(self, request: Request, source: str | None, read: Read) -> Response:
        """The answer to a request; raises PostError."""
        whose = source_of(source, request.scope.get(SOURCE, ""))
        key = request.headers.get(KEY_HEADER)
        if key is not None and not _KEY.fullmatch(key):
            raise PostError(422, "key", "Idempotency-Key: 1 to 100 visible ASCII characters", shown(key), "send another key")
        named, found = await self._read(request, whose, key, read)
        if isinstance(found, Answer):
            return _accepted(found)
        if not self._records.spend(request.scope.get(CLIENT, ""), time.monotonic(), found.count):
            expected = f"up to {self._config.records_per_s:g} records a second (ingest.records_per_s)"
            raise PostError(429, "records_rate", expected, "more", _LATER, retry_after_s=_RETRY_S)
        return _accepted(await self._intake.take(found, named))

    async def _read(self, request: Request, whose: str, key: str | None, read: Read) -> tuple[Named | None, Posted | Answer]:
        """A request's records, or the answer that it was given before. Its body isn't held while the broker is waited for."""
        form = form_of(request.headers.get("content-type", ""))
        body = bytearray()
        try:
            await self._receive(request, body)
            named = None if key is None else Named(f"{whose}:{key}", _digest(request, body))
            # Before the clock judges it: what was taken once is answered so again, however old it is by now.
            given, claimed_ms = (None, 0) if named is None else self._intake.given(named)
            if given is not None:
                return named, given
            asked = Asked(whose, self._now_ms(), claimed_ms)
            return named, await self._checked(len(body), lambda: read(values_of(body, form, self._config.batch_most), asked))
        finally:
            self._bodies -= len(body)

    async def _checked(self, size: int, check: Callable[[], Posted]) -> Posted:
        if size <= INLINE_MOST_BYTES:
            return check()
        try:
            async with asyncio.timeout(self._config.answer_s):
                await self._turn.acquire()
        except TimeoutError:
            expected = f"the body's turn to be checked within {self._config.answer_s:g} s (ingest.answer_s)"
            raise PostError(503, "busy", expected, "too many before it", _LATER, retry_after_s=_RETRY_S) from None
        try:
            return await asyncio.to_thread(check)
        finally:
            self._turn.release()

    async def _receive(self, request: Request, body: bytearray) -> None:
        """Fill `body`, counted in `_bodies`."""
        most = self._config.body_mib << 20
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise PostError(415, "encoding", "a body as it is", shown(encoding), "leave the header Content-Encoding out")
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > most:
            raise self._too_large(told)
        try:
            async for part in request.stream():
                if len(body) + len(part) > most:
                    raise self._too_large(f"more than {most}")
                if self._bodies + len(part) > self._bodies_most:
                    expected = f"at most {self._bodies_most >> 20} MiB of bodies at once"
                    raise PostError(429, "full", expected, "more", _LATER, retry_after_s=_RETRY_S)
                body += part
                self._bodies += len(part)
        except ClientDisconnect:
            # Nobody reads this answer; it is counted as what it is, and is no error of ours.
            raise PostError(400, "gone", "the whole body", "the end of the connection", "send it again") from None

    def _too_large(self, came: str) -> PostError:
        most = self._config.body_mib
        return PostError(413, "too_large", f"a body of up to {most} MiB (ingest.body_mib)", f"{came} bytes", "send it in several requests")


def routes(config: IngestConfig, intake: Intake, now_ms: Callable[[], int]) -> APIRouter:
    """The three routes."""
    router = APIRouter(tags=["ingestion"])
    door = Door(config, intake, now_ms)

    @router.post("/ingest", status_code=ACCEPTED, responses=answers(), openapi_extra=body_of(BarPost))
    async def ingest(
        request: Request,
        source: Source = None,
        interval: Annotated[Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"], Query(description=_INTERVAL)] = "1d",
        align: Annotated[Literal["exact", "down"], Query(description=_ALIGN)] = "exact",
        holes: Annotated[Literal["new_run", "quiet"], Query(description=_HOLES)] = "new_run",
    ) -> Response:
        """Take bars of stocks, as candles of their symbol with indicators."""
        rules = BarRules(interval, align, holes, config.batch_most)
        return await door.take(request, source, lambda values, asked: bars(values, asked, rules))

    @router.post("/api/v1/klines", status_code=ACCEPTED, responses=answers(), openapi_extra=body_of(KlinePost))
    async def post_klines(request: Request, source: Source = None) -> Response:
        """Take closed 1 s klines."""
        return await door.take(request, source, klines)

    @router.post("/api/v1/trades", status_code=ACCEPTED, responses=answers(), openapi_extra=body_of(TradePost))
    async def post_trades(request: Request, source: Source = None) -> Response:
        """Take trades."""
        return await door.take(request, source, trades)

    return router


def _accepted(answer: Answer) -> Response:
    headers = {REPLAYED_HEADER: "true"} if answer.replayed else None
    return Response(answer.body, ACCEPTED, headers, "application/json")


def _digest(request: Request, body: bytearray) -> str:
    """Of all that a request's outcome depends on."""
    digest = hashlib.sha256(f"{request.url.path}?{request.url.query}\n{request.headers.get('content-type', '')}\n".encode())
    digest.update(body)
    return digest.hexdigest()
