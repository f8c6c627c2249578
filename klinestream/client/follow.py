"""Live records over the websocket: connects, notices a broken line, and comes back by itself with its cursor."""

import random
import time
from collections.abc import Callable, Iterator, Sequence

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from klinestream.client.address import DEFAULT_URL, TOKEN_VARIABLE, ClientError, authorization, is_local, websocket_url
from klinestream.client.session import Batch, Session

SILENCE_MOST_S = 6.0
"""The server's heartbeat comes every two seconds."""
WAIT_FIRST_S = 0.25
WAIT_MOST_S = 8.0
MESSAGE_MOST_BYTES = 16 << 20
_OPEN_S = 10.0
_MEND_CODES = (1008, 1009)
_UNAUTHORIZED, _TOO_MANY = 401, 429
_TOO_SLOW = "too slow"


def follow(
    symbols: Sequence[str],
    kinds: Sequence[str] = ("windows",),
    intervals: Sequence[str] = (),
    *,
    limit: int = 100,
    url: str = DEFAULT_URL,
    token: str | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> Iterator[Batch]:
    """New records as they come, for ever: the newest `limit` of each series first, each record once.

    `symbols` may hold patterns such as `*USDT`; `intervals` are needed for candles, indicators and signals. `told` is called with
    what happens to the connection, for a person. `token` is for a server that asks for one; without it that of
    KLINESTREAM_CLIENT__TOKEN is taken. Raises ClientError if the first connection fails, or the server refuses.
    """
    session = Session(symbols, kinds, intervals, limit)
    address, headers = websocket_url(url), authorization(token)
    waits = _waits()
    known = False
    while True:
        try:
            with _opened(address, headers) as connection:
                told("connected")
                connection.send(session.subscribe())
                for batch in _batches(connection, session, told):
                    waits = _waits()
                    yield batch
        except (ConnectionClosed, TimeoutError, OSError, InvalidHandshake) as error:
            known = known or session.subscribed
            _refuse(error, address, known=known)
            wait_s = next(waits)
            told(f"reconnecting in {wait_s:.1f} s: {_reason(error)}")
            time.sleep(wait_s)


def _opened(address: str, headers: dict[str, str]) -> ClientConnection:
    if is_local(address):
        return connect(address, additional_headers=headers, proxy=None, open_timeout=_OPEN_S, max_size=MESSAGE_MOST_BYTES)
    return connect(address, additional_headers=headers, open_timeout=_OPEN_S, max_size=MESSAGE_MOST_BYTES)


def _batches(connection: ClientConnection, session: Session, told: Callable[[str], None]) -> Iterator[Batch]:
    while True:
        yield from session.take(connection.recv(timeout=SILENCE_MOST_S))
        if session.warning:
            told(session.warning)
            session.warning = ""


def _refuse(error: Exception, address: str, *, known: bool) -> None:
    """Raise ClientError where another attempt would end the same."""
    if isinstance(error, ConnectionClosed) and error.rcvd is not None:
        if error.rcvd.code in _MEND_CODES and not error.rcvd.reason.startswith(_TOO_SLOW):
            raise ClientError(f"the server at {address} has closed the connection: {error.rcvd.reason}") from None
    elif isinstance(error, InvalidStatus) and error.response.status_code == _UNAUTHORIZED:
        raise ClientError(f"expected a token that the server at {address} knows: pass one, or set {TOKEN_VARIABLE}") from None
    elif isinstance(error, InvalidStatus) and error.response.status_code == _TOO_MANY:
        return  # it says how to mend that: wait
    elif isinstance(error, InvalidStatus) and error.response.status_code < 500:
        raise ClientError(
            f"expected a websocket at {address}, got status {error.response.status_code}: is this address one of klinestream's server?"
        ) from None
    elif not known and not isinstance(error, ConnectionClosed):
        raise ClientError(
            f"expected a server at {address}, but it can't be reached ({_reason(error)}): is `klinestream server` running there?"
        ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "nothing was heard in time"
    return str(error) or type(error).__name__


def _waits() -> Iterator[float]:
    """Doubled up to the most, with jitter, so that the clients of a restarted server don't come back all at once."""
    wait_s = WAIT_FIRST_S
    while True:
        yield wait_s * random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
        wait_s = min(WAIT_MOST_S, 2 * wait_s)
