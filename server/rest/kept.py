"""Answers that take long to make: made when somebody asks, kept a while, packed once, and not sent again to who has them."""

import asyncio
import gzip
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Request, Response

from server.rest.query import Format
from server.stream.encoding import JSON

T = TypeVar("T")

PACKED_LEVEL = 5
"""Of gzip: higher ones take longer and save next to nothing."""


@dataclass(frozen=True, slots=True)
class Body:
    """An answer as it is sent, plain and packed. The tag changes with the data, not with the time at which it was made."""

    plain: bytes
    packed: bytes
    tag: str


class Kept(Generic[T]):
    """What takes long to make: made when it is asked for, kept a while, and made once however many ask meanwhile."""

    def __init__(self, make: Callable[[], Awaitable[T]], kept_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Nothing is made yet."""
        self._make = make
        self._kept_s = kept_s
        self._clock_s = clock_s
        self._task: asyncio.Task[T] | None = None
        self._until_s = 0.0

    async def get(self) -> T:
        """What was made within the time that it is kept. A fault is kept too: who asks again at once gets the same."""
        if self._task is None or (self._task.done() and self._clock_s() >= self._until_s):
            self._until_s = self._clock_s() + self._kept_s
            self._task = asyncio.create_task(self._made())
        # One who goes away must not end it for the others.
        return await asyncio.shield(self._task)

    async def _made(self) -> T:
        return await self._make()


def body_of(now_ms: int, head: Mapping[str, Any], columns: Mapping[str, bytes]) -> Body:
    """A body with the time at which it was made, a head, and columns that are encoded already."""
    known = JSON.mapping(head, columns)
    plain = JSON.mapping({"server_time": now_ms, **head}, columns)
    # Weak: the time in it may differ.
    return Body(plain, gzip.compress(plain, PACKED_LEVEL, mtime=0), f'W/"{hashlib.blake2b(known, digest_size=12).hexdigest()}"')


def answered(body: Body, request: Request) -> Response:
    """The body as a request takes it; none where its tag says that it has it."""
    headers = {"etag": body.tag, "cache-control": "no-store", "vary": "accept-encoding"}
    if body.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(body.plain, 200, headers, Format.JSON.media_type)
    return Response(body.packed, 200, {**headers, "content-encoding": "gzip"}, Format.JSON.media_type)
