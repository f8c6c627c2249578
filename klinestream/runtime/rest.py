"""The exchange's REST interface, as far as klinestream asks it: its clock, its symbols, its klines, its trades and its candles."""

from collections.abc import Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

import httpx
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

from klinestream.market.codec import kline_of_row
from klinestream.market.errors import ExchangeError, RecordError
from klinestream.market.events import KLINE_INTERVAL, SECOND_MS, Kline
from klinestream.market.intervals import INTERVALS
from klinestream.market.reconcile import AggTrade, agg_trade_of, single_trade_of
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.weights import Weights

log = structlog.get_logger()

KLINES_MOST = 1000
"""How many seconds one request can ask for."""
KLINES_WEIGHT = 2
CANDLES_MOST = 1000
"""How many candles one request can ask for."""
AGG_TRADES_MOST = 1000
"""How many aggregated trades one answer holds."""
AGG_TRADES_WEIGHT = 4
TRADES_MOST = 1000
"""How many single trades one answer holds."""
OLD_TRADES_WEIGHT = 25
DEPTH_MOST = 5000
"""How many levels a side one answer holds."""
_DEPTH_WEIGHTS = ((100, 5), (500, 25), (1000, 50), (DEPTH_MOST, 250))  # up to so many levels
_TIME_WEIGHT, _INFO_WEIGHT = 1, 20
_CLOSE_COLUMN = 6
_TIMEOUT_S = 10.0
_URGENT_TIMEOUT_S = 2.0  # klines are held for 3 s by default: time to ask once more
_PATIENCE_S = 30.0  # how long a start waits for an exchange that is away or says that we ask too much


class PassingError(ExchangeError):
    """No answer, or one that may be another in a moment."""


class NotYetError(PassingError):
    """Nothing was sent: the exchange's limits don't allow it now; `wait_s` says when to ask again."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class BannedError(PassingError):
    """418 or 403: over for now, and longer than a start waits."""


Page = list[AggTrade]
Through = Callable[[Callable[[], Page]], Page]
"""Calls what it is given, and returns what that returns; it may try again, or wait first."""


class Rest:
    """A connection to the exchange's REST interface. Not for several threads at once."""

    def __init__(self, config: ExchangeConfig, weights: Weights | None = None) -> None:
        """Connects with the first request. `weights` is asked before each request and told of each answer; all threads may share it."""
        self._base = config.rest_url.rstrip("/")
        self._fallback = config.fallback_rest_url.rstrip("/")
        self._weights = weights
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
        found = self._object("/api/v3/time", _TIME_WEIGHT).get("serverTime")
        if not isinstance(found, int):
            raise ExchangeError(f"expected serverTime from {self._base}/api/v3/time, got {found!r}: check exchange.rest_url")
        return found

    def statuses(self, *, patient: bool = True) -> dict[str, str]:
        """Symbol → status (TRADING, BREAK …) of all that the exchange lists. Tries for a while if `patient`; raises ExchangeError."""
        path = "/api/v3/exchangeInfo"
        answer = patiently(lambda: self._object(path, _INFO_WEIGHT)) if patient else self._object(path, _INFO_WEIGHT)
        listed = answer.get("symbols")
        try:
            return {entry["symbol"]: entry["status"] for entry in listed or ()}
        except (TypeError, KeyError):
            raise ExchangeError(f"expected symbols with a status from {self._base}/api/v3/exchangeInfo: check exchange.rest_url") from None

    def klines(self, symbol: str, from_ms: int, to_ms: int, *, urgent: bool = False) -> list[Kline]:
        """The closed 1 s klines that open in [from_ms, to_ms), up to `KLINES_MOST` seconds of them, oldest first.

        Seconds that the exchange doesn't have, or not yet, are missing. What is not urgent leaves more of the exchange's
        weight to others and waits longer for an answer. Raises ExchangeError; a PassingError may be over in a moment.
        """
        check_span(from_ms, to_ms)
        path = "/api/v3/klines"
        query: dict[str, str | int] = {"symbol": symbol, "interval": KLINE_INTERVAL, "startTime": from_ms, "endTime": to_ms - 1}
        answer = self._answer(path, KLINES_WEIGHT, query | {"limit": KLINES_MOST}, urgent)
        rows = _json(answer)
        if not isinstance(rows, list):
            raise ExchangeError(f"expected a list of klines from {self._base}{path}, got {answer.text[:200]!r}: check exchange.rest_url")
        try:
            found = [kline_of_row(symbol, row) for row in rows]
        except RecordError as error:
            raise ExchangeError(f"expected klines of {symbol} from {self._base}{path}, got one with {error}: tell its makers") from None
        _check_order(found, from_ms, to_ms)
        # A second in progress is answered as it stands, and only the answer's own date is by the exchange's clock.
        now_ms = _date_ms(answer)
        return [kline for kline in found if now_ms is None or kline.close_time_ms < now_ms]

    def candles(self, symbol: str, interval: str, from_ms: int, to_ms: int) -> list[Any]:
        """The rows of the closed candles that open in [from_ms, to_ms), up to `CANDLES_MOST` of them, as the exchange gives them.

        Nothing is checked of a row but that it isn't one in progress. Candles that the exchange doesn't have, or not yet, are
        missing. It asks as what is not urgent does. Raises ExchangeError; a PassingError may be over in a moment.
        """
        if not 0 <= from_ms < to_ms <= from_ms + CANDLES_MOST * INTERVALS[interval]:
            raise ValueError(f"expected 1 to {CANDLES_MOST} candles of {interval}, got [{from_ms}, {to_ms})")
        path = "/api/v3/klines"
        query: dict[str, str | int] = {"symbol": symbol, "interval": interval, "startTime": from_ms, "endTime": to_ms - 1}
        answer = self._answer(path, KLINES_WEIGHT, query | {"limit": CANDLES_MOST}, urgent=False)
        rows = _json(answer)
        if not isinstance(rows, list):
            raise ExchangeError(f"expected a list of candles from {self._base}{path}, got {answer.text[:200]!r}: check exchange.rest_url")
        now_ms = _date_ms(answer)
        return [row for row in rows if now_ms is None or not _is_open(row, now_ms)]

    def agg_trades(self, symbol: str, from_ms: int, to_ms: int, *, through: Through = lambda ask: ask()) -> Iterator[AggTrade]:
        """The aggregated trades of [from_ms, to_ms), up to `KLINES_MOST` whole seconds, in order, asked for as they are read.

        None between the first and the last is missing: their ids follow each other. `through` sends each request, of
        `AGG_TRADES_MOST` trades, and may try it again. Raises ExchangeError; a PassingError may be over in a moment.
        """
        check_span(from_ms, to_ms)
        query: dict[str, str | int] = {"startTime": from_ms, "endTime": to_ms - 1}
        while True:
            asked: dict[str, str | int] = {"symbol": symbol, **query, "limit": AGG_TRADES_MOST}
            page = through(partial(self._agg_trades_page, asked))
            for trade in page:
                if not from_ms <= trade.time_ms < to_ms:
                    break
                yield trade
            else:
                if len(page) == AGG_TRADES_MOST:
                    query = {"fromId": page[-1].id + 1}
                    continue
            return

    def agg_trades_from(self, symbol: str, *, from_id: int | None = None, from_ms: int = 0, urgent: bool = False) -> list[AggTrade]:
        """Aggregated trades from an id on, or from a time on, up to `AGG_TRADES_MOST`, none between them missing. Raises ExchangeError."""
        place: dict[str, str | int] = {"startTime": from_ms} if from_id is None else {"fromId": from_id}
        return self._agg_trades_page({"symbol": symbol, **place, "limit": AGG_TRADES_MOST}, urgent)

    def old_trades(self, symbol: str, from_id: int, limit: int, *, urgent: bool = False) -> list[AggTrade]:
        """Single trades from an id on, up to `TRADES_MOST`, none missing; their own id stands for the aggregate's. Raises ExchangeError."""
        query: dict[str, str | int] = {"symbol": symbol, "fromId": from_id, "limit": limit}
        return self._trades("/api/v3/historicalTrades", OLD_TRADES_WEIGHT, query, single_trade_of, urgent)

    def depth(self, symbol: str, levels: int, *, urgent: bool = False) -> dict[str, Any]:
        """The best levels of a symbol's book as the exchange gives them, nothing checked. Raises ExchangeError."""
        path = "/api/v3/depth"
        answer = self._answer(path, depth_weight(levels), {"symbol": symbol, "limit": levels}, urgent)
        found = _json(answer)
        if not isinstance(found, dict):
            raise ExchangeError(f"expected a book from {self._base}{path}, got {answer.text[:200]!r}: check exchange.rest_url")
        return found

    def _agg_trades_page(self, query: dict[str, str | int], urgent: bool = False) -> list[AggTrade]:
        return self._trades("/api/v3/aggTrades", AGG_TRADES_WEIGHT, query, agg_trade_of, urgent)

    def _trades(  # what is asked, and how it is read
        self, path: str, weight: int, query: dict[str, str | int], read: Callable[[Any], AggTrade], urgent: bool
    ) -> list[AggTrade]:
        answer = self._answer(path, weight, query, urgent)
        items = _json(answer)
        if not isinstance(items, list):
            raise ExchangeError(f"expected a list of trades from {self._base}{path}, got {answer.text[:200]!r}: check exchange.rest_url")
        try:
            page = [read(item) for item in items]
        except RecordError as error:
            raise ExchangeError(
                f"expected trades of {query['symbol']} from {self._base}{path}, got one with {error}: tell its makers"
            ) from None
        _check_trades(page, query)
        return page

    def _object(self, path: str, weight: int) -> dict[str, Any]:
        answer = self._answer(path, weight, {}, urgent=True)
        found = _json(answer)
        if not isinstance(found, dict):
            raise ExchangeError(f"expected a JSON object from {answer.url}, got {answer.text[:200]!r}: check exchange.rest_url")
        return found

    def _answer(self, path: str, weight: int, query: dict[str, str | int], urgent: bool) -> httpx.Response:
        """An answer with status 200. Raises ExchangeError."""
        answer = self._send(path, weight, query, urgent)
        if answer.status_code == httpx.codes.UNAVAILABLE_FOR_LEGAL_REASONS:
            self._fall_back()
            answer = self._send(path, weight, query, urgent)
        status = answer.status_code
        if status == httpx.codes.OK:
            return answer
        message = f"expected 200 from {self._base}{path}, got {status}: {answer.text[:200]}"
        if status in (httpx.codes.FORBIDDEN, httpx.codes.IM_A_TEAPOT):
            raise BannedError(message)
        if status == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
            raise PassingError(message)
        raise ExchangeError(message)

    def _send(self, path: str, weight: int, query: dict[str, str | int], urgent: bool) -> httpx.Response:
        """Any answer. Raises PassingError if there is none, or if nothing may be sent now."""
        weights, url = self._weights, self._base + path
        sent = weights.take(weight, urgent) if weights else None
        if weights and sent is None:
            wait_s = weights.wait_s(weight, urgent)
            raise NotYetError(f"expected room for a request to {url}, but the exchange's limits are used up for {wait_s:.1f} s", wait_s)
        answer = None
        try:
            answer = self._client.get(url, params=query, timeout=_URGENT_TIMEOUT_S if urgent and query else _TIMEOUT_S)
        except httpx.RequestError as error:
            raise PassingError(f"expected an answer from {url}: {error}; check exchange.rest_url and the network") from None
        finally:
            if weights and sent and answer is None:
                weights.lost(sent)
        if weights and sent:
            headers = answer.headers
            weights.answered(sent, answer.status_code, headers.get("X-MBX-USED-WEIGHT-1M"), headers.get("Retry-After"))
        return answer

    def _fall_back(self) -> None:
        """Ask another address from now on. Raises ExchangeError if there is none."""
        # The exchange itself speaks https alone: real klines must never mix with those of a stand-in.
        other = httpx.URL(self._base).scheme != httpx.URL(self._fallback).scheme
        if self._base == self._fallback or other:
            raise ExchangeError(
                f"expected an answer from {self._base}, but it refuses requests from this region (451): "
                "set exchange.rest_url to an address that may be used from here"
            )
        log.warning(
            "the exchange refuses requests from this region, asking another address from now on", refused=self._base, now=self._fallback
        )
        self._base = self._fallback


def depth_weight(levels: int) -> int:
    """What a request for so many levels a side costs.

    >>> depth_weight(100), depth_weight(1000)
    (5, 50)
    """
    return next(weight for most, weight in _DEPTH_WEIGHTS if levels <= most)


def check_span(from_ms: int, to_ms: int) -> None:
    """Raise ValueError unless one request can ask for these open times."""
    if from_ms < 0 or from_ms % SECOND_MS or to_ms % SECOND_MS or not 0 < to_ms - from_ms <= KLINES_MOST * SECOND_MS:
        raise ValueError(f"expected 1 to {KLINES_MOST} whole seconds, got [{from_ms}, {to_ms})")


def _is_open(row: Any, now_ms: int) -> bool:
    return isinstance(row, list) and len(row) > _CLOSE_COLUMN and isinstance(row[_CLOSE_COLUMN], int) and row[_CLOSE_COLUMN] >= now_ms


def _check_order(klines: Sequence[Kline], from_ms: int, to_ms: int) -> None:
    after_ms = from_ms - 1
    for kline in klines:
        if not after_ms < kline.open_time_ms < to_ms:
            raise ExchangeError(
                f"expected klines of {kline.symbol} from {from_ms} to {to_ms}, oldest first, got {kline.open_time_ms}: "
                "check exchange.rest_url"
            )
        after_ms = kline.open_time_ms


def _check_trades(page: Sequence[AggTrade], query: dict[str, str | int]) -> None:
    """A page holds what was asked for, and nothing is missing in it."""
    if not page:
        return
    first = query.get("fromId", page[0].id)
    for place, trade in enumerate(page):
        late, early = trade.time_ms > int(query.get("endTime", trade.time_ms)), trade.time_ms < int(query.get("startTime", 0))
        if trade.id != int(first) + place or late or early:
            raise ExchangeError(
                f"expected trade {int(first) + place} of {query['symbol']} in the span asked for, got {trade.id} of {trade.time_ms}: "
                "it lacks trades, or exchange.rest_url is no exchange; try again later"
            )


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _date_ms(answer: httpx.Response) -> int | None:
    """When the answer was made, to the second below; None if it doesn't say."""
    try:
        return int(parsedate_to_datetime(answer.headers["Date"]).timestamp()) * SECOND_MS
    except (KeyError, ValueError):
        return None


def patiently(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `ask` returns, tried again for a while if the exchange is away or overloaded. Raises its last ExchangeError."""

    def tell(state: RetryCallState) -> None:
        log.warning(
            "exchange not answering, trying again", reason=str(state.outcome and state.outcome.exception()), attempt=state.attempt_number
        )

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, PassingError) and not isinstance(error, BannedError)),
        stop=stop_after_delay(_PATIENCE_S),
        wait=wait_exponential(multiplier=0.25, max=5) + wait_random(0, 0.25),
        before_sleep=tell,
        reraise=True,
    )
    return retrying(ask)
