"""Asks the parts over HTTP: shortly, for a bounded answer, and with reasons for a person that name no address."""

import asyncio
import re
import socket
from collections.abc import Iterator

import httpx

from klinestream.market.errors import KlinestreamError

WITHIN_S = 2.0
"""A part that is well answers in milliseconds; who looks on doesn't wait longer than this for one that isn't."""
BODY_MOST_BYTES = 4 << 20
TEXT_MOST = 200
_READ_MOST = 2000
_ADDRESS = re.compile(
    r"""
    \b[a-z][a-z0-9+.-]*://\S+                              # https://host/path
    | /?\b(?=[\w.-]*[a-z])[\w.-]+:\d{2,5}\b               # host:9092, and not 12:34:56
    | /?\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d{1,5}\b)?      # 10.0.0.7:9092
    | \[[0-9a-f:]*:[0-9a-f:]*\](?::\d{1,5}\b)?            # [::1]:9092
    """,
    re.IGNORECASE | re.VERBOSE,
)


class AwayError(KlinestreamError):
    """A part gave no answer that can be used; its text says why."""


class Asker:
    """Asks with GET. Opens connections when they are needed, and keeps them for the next look."""

    def __init__(self) -> None:
        """Does not connect yet."""
        self._client: httpx.AsyncClient | None = None

    async def get(self, url: str, *, faulty: bool = False) -> str:
        """The body of an answer. Raises AwayError; unless `faulty` also for one that tells of an error."""
        try:
            async with asyncio.timeout(WITHIN_S):
                return await self._get(url, faulty)
        except (TimeoutError, httpx.TimeoutException):
            raise AwayError(f"no answer within {WITHIN_S:g} s") from None
        except httpx.HTTPError as error:
            raise AwayError(_why(error)) from None

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _get(self, url: str, faulty: bool) -> str:
        if self._client is None:
            # No proxy stands between the parts, and no redirect leads from one to another.
            self._client = httpx.AsyncClient(timeout=WITHIN_S, trust_env=False, follow_redirects=False)
        async with self._client.stream("GET", url) as answer:
            if not answer.is_success and not faulty:
                raise AwayError(f"it answered with {answer.status_code}")
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > BODY_MOST_BYTES:
                    raise AwayError(f"expected an answer of at most {BODY_MOST_BYTES >> 20} MB, got more")
            return body.decode(errors="replace")


def without_addresses(text: str) -> str:
    """A line for everybody: what looks like an address is left out, and what is too long is cut.

    >>> without_addresses("Connection to kafka-1.internal:9092 (/10.0.0.7:9092) was lost, see http://kafka:8081/x")
    'Connection to … (…) was lost, see …'
    """
    line = _ADDRESS.sub("…", " ".join(text[:_READ_MOST].split()))
    return line if len(line) <= TEXT_MOST else f"{line[: TEXT_MOST - 1]}…"


def _why(error: httpx.HTTPError) -> str:
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "its name is not known here"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes) or isinstance(error, httpx.ConnectError):
        return "nothing listens at its address"
    return without_addresses(str(error)) or "the connection broke"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
