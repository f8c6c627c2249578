"""Asks a running stand-in for its status and for faults; for the command line and for tests."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx

from klinestream.market.errors import ExchangeError
from klinestream.standin.faults import Fault

POLL_S = 0.02


class StandinClient:
    """The admin endpoint of one stand-in. Every method raises ExchangeError where it doesn't answer, or refuses."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        """`url` is the stand-in's base address: http://127.0.0.1:8090."""
        self._url = url
        # Proxies are for the world outside; the stand-in is on this machine.
        self._http = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        """Itself; closed at the end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self._http.close()

    def status(self) -> dict[str, Any]:
        """Connections, subscriptions, frames sent, faults under way."""
        return self._ask("GET", "/standin/status")

    def inject(self, fault: Fault) -> dict[str, Any]:
        """Bring a fault about; says which connections it met, or until when it lasts."""
        return self._ask("POST", "/standin/faults", json=fault.model_dump(mode="json"))

    def clear(self) -> None:
        """End all faults."""
        self._ask("DELETE", "/standin/faults")

    def wait(self, condition: Callable[[dict[str, Any]], bool], deadline_s: float = 10.0) -> dict[str, Any]:
        """The first status that fulfils the condition. Raises ExchangeError at the deadline."""
        end = time.monotonic() + deadline_s
        while not condition(status := self.status()):
            if time.monotonic() > end:
                raise ExchangeError(f"expected the stand-in to reach a state within {deadline_s} s, and it is in this one: {status}")
            time.sleep(POLL_S)
        return status

    def _ask(self, method: str, path: str, json: Any = None) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=json)
            body: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ExchangeError(
                f"expected a stand-in exchange at {self._url}, but {error}: is `klinestream standin` running there?"
            ) from None
        if answer.is_error:
            raise ExchangeError(body.get("error", f"the stand-in answered {answer.status_code}"))
        return body
