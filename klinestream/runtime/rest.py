"""The exchange's REST interface, as far as klinestream asks it: its clock and its symbols."""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import httpx
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

from klinestream.market.errors import ConfigError, ExchangeError
from klinestream.runtime.config import ExchangeConfig

log = structlog.get_logger()

_TIMEOUT_S = 10.0
_PATIENCE_S = 30.0  # how long a start waits for an exchange that is away or says that we ask too much
_ALL = ("*",)


class _PassingError(ExchangeError):
    """No answer, or one that may be another in a moment."""


class Rest:
    """A connection to the exchange's REST interface. Not for several threads at once."""

    def __init__(self, config: ExchangeConfig) -> None:
        """Connects with the first request."""
        self._base = config.rest_url.rstrip("/")
        self._client = httpx.Client(timeout=_TIMEOUT_S)

    def __enter__(self) -> Self:
        """Itself; it disconnects at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def server_time_ms(self) -> int:
        """The exchange's clock. Raises ExchangeError."""
        found = self._get("/api/v3/time").get("serverTime")
        if not isinstance(found, int):
            raise ExchangeError(f"expected serverTime from {self._base}/api/v3/time, got {found!r}: check exchange.rest_url")
        return found

    def statuses(self) -> dict[str, str]:
        """Symbol → status (TRADING, BREAK …) of all that the exchange lists. Tries for a while; raises ExchangeError."""
        listed = patiently(lambda: self._get("/api/v3/exchangeInfo")).get("symbols")
        try:
            return {entry["symbol"]: entry["status"] for entry in listed or ()}
        except (TypeError, KeyError):
            raise ExchangeError(f"expected symbols with a status from {self._base}/api/v3/exchangeInfo: check exchange.rest_url") from None

    def _get(self, path: str) -> dict[str, Any]:
        url = self._base + path
        try:
            response = self._client.get(url)
        except httpx.TransportError as error:
            raise _PassingError(f"expected an answer from {url}: {error}; check exchange.rest_url and the network") from None
        if response.status_code != httpx.codes.OK:
            message = f"expected 200 from {url}, got {response.status_code}: {response.text[:200]}"
            passing = response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error
            raise _PassingError(message) if passing else ExchangeError(message)
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ExchangeError(f"expected a JSON object from {url}, got {response.text[:200]!r}: check exchange.rest_url")
        return found


def patiently(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `ask` returns, tried again for a while if the exchange is away or overloaded. Raises its last ExchangeError."""

    def tell(state: RetryCallState) -> None:
        log.warning(
            "exchange not answering, trying again", reason=str(state.outcome and state.outcome.exception()), attempt=state.attempt_number
        )

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, _PassingError)),
        stop=stop_after_delay(_PATIENCE_S),
        wait=wait_exponential(multiplier=0.25, max=5) + wait_random(0, 0.25),
        before_sleep=tell,
        reraise=True,
    )
    return retrying(ask)


def chosen_symbols(wanted: Iterable[str], statuses: dict[str, str]) -> tuple[str, ...]:
    """The symbols to follow, sorted: those wanted, or with `*` alone all that trade. Raises ConfigError naming unknown ones.

    >>> chosen_symbols(["*"], {"BTCUSDT": "TRADING", "OLDUSDT": "BREAK"})
    ('BTCUSDT',)
    """
    names = tuple(wanted)
    if names == _ALL:
        return tuple(sorted(symbol for symbol, status in statuses.items() if status == "TRADING"))
    unknown = sorted(set(names) - statuses.keys())
    if unknown or not names:
        raise ConfigError(
            f"exchange.symbols: expected symbols that the exchange lists, upper case, or * alone; got {', '.join(unknown) or 'none'}"
        )
    return tuple(sorted(set(names)))
