"""uvicorn's HTTP connections with the bound that they lack: how long a request may take to come.

connect ···· first byte ···· whole request ─► answer ─► keep alive
└────────────── at most HEAD_MOST_S ─────┘
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_MOST_S = 10.0
HEAD_MOST_BYTES = 16 * 1024
_AWAITED = (h11.IDLE, h11.SEND_BODY)
"""What a client is while we wait for a request, or for the rest of it."""


class PatientHttp(H11Protocol):
    """HTTP whose requests have to come in time, body included: who sends a byte now and then holds no connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As uvicorn makes it."""
        super().__init__(*arguments, **named)
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's narrows it too
        """Start waiting for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        self._wait()
        super().data_received(data)
        if self.conn.their_state not in _AWAITED or self.transport.get_protocol() is not self:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing comes any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_MOST_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
