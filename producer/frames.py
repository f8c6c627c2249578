"""What a websocket frame says: a closed kline, something to pass over, a reply to us, or something for the dead letters.

A kline whose numbers are written as the exchange writes them is checked in its text and passed on in it; any other one
is judged by `market.codec`, so that there is one definition of what a kline is. Both ways give the same bytes.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from klinestream.market import codec
from klinestream.market.errors import RecordError
from klinestream.market.events import KLINE_INTERVAL, SECOND_MS, Kline, Origin

# A close time this far ahead of our clock is a fault. The topic refuses what is 60 s ahead, and the rest of its batch with it.
AHEAD_MOST_MS = 10_000
SHUTDOWN = "serverShutdown"
_INTERVALS = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
_ID_END = 2**63
# Eight numbers as `decimals.show` writes them.
_NUMBER = r"(?:0|[1-9][0-9]{0,14})\.[0-9]{8}"
_CANONICAL = re.compile(rf"{_NUMBER}(?:,{_NUMBER}){{7}}").fullmatch
_PRICE_LENGTH_MOST = 19  # ten digits before the point: below what a price may be
_ZERO = "0.00000000"


class Passed(enum.Enum):
    """A sound frame with nothing to publish in it."""

    OPEN = "open"
    INTERVAL = "interval"
    PING = "ping"


@dataclass(frozen=True, slots=True)
class Reply:
    """The exchange's answer to a request of ours; `error` is empty if all is well. An error may come without our id."""

    id: int | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The exchange is about to end the connection."""


@dataclass(slots=True)
class ClosedKline:
    """A closed 1 s kline as it came, checked: `wire` has the fields of its record but for those that need its past."""

    symbol: str
    open_time_ms: int
    close: str
    trades: int
    first_trade_id: int
    """-1 where no trade fell in the second, and in a kline of REST, which doesn't tell it."""
    last_trade_id_within: int
    wire: dict[str, Any]

    @property
    def close_time_ms(self) -> int:
        """When it closed."""
        return self.open_time_ms + SECOND_MS - 1


Frame = ClosedKline | Passed | Reply | Shutdown


def decode(raw: bytes, streams: Mapping[str, str], now_ms: int) -> Frame:
    """What a frame of the combined form says.

    `streams` maps the names of the streams that the connection carries to their symbols. Raises RecordError, with a
    short reason for the dead letters.
    """
    try:
        frame = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise RecordError("not JSON") from None
    if not isinstance(frame, dict):
        raise RecordError("not a JSON object")
    data = frame.get("data")
    if not isinstance(data, dict):
        return control(frame)
    event = data.get("e")
    if event == SHUTDOWN:
        return Shutdown()
    if event != "kline":
        raise RecordError("e: expected kline")
    kline = data.get("k")
    if not isinstance(kline, dict):
        raise RecordError("k: expected an object")
    interval = kline.get("i")
    if interval != KLINE_INTERVAL:
        if interval in _INTERVALS:
            return Passed.INTERVAL
        raise RecordError(f"i: expected {KLINE_INTERVAL}")
    stream, symbol = frame.get("stream"), kline.get("s")
    if type(stream) is not str or streams.get(stream, "") != symbol or data.get("s") != symbol:
        raise RecordError("s: expected the symbol of a stream that was asked for")
    closed = kline.get("x")
    if closed is False:
        return Passed.OPEN
    if closed is not True:
        raise RecordError("x: expected true or false")
    return _timely(_plain(kline) or _judged(kline), now_ms)


def control(frame: dict[str, Any]) -> Reply | Shutdown:
    """A reply, an error with or without its wrapping, or the raw form of the shutdown."""
    if frame.get("e") == SHUTDOWN:
        return Shutdown()
    request = frame.get("id")
    error = frame.get("error", frame if "code" in frame and "msg" in frame else None)
    if isinstance(error, dict):
        return Reply(request if isinstance(request, int) else None, f"{error.get('code')}: {error.get('msg')}")
    if "result" in frame and isinstance(request, int):
        return Reply(request)
    raise RecordError("neither a stream's frame nor a reply")


def _plain(k: dict[str, Any]) -> ClosedKline | None:
    """The kline if all of it is written in the usual way and agrees with itself; None leaves the judgement to the codec."""
    try:
        symbol, t, close_time = k["s"], k["t"], k["T"]
        o, h, l, c = k["o"], k["h"], k["l"], k["c"]  # noqa: E741  # the exchange's names
        v, q, taker_v, taker_q = k["v"], k["q"], k["V"], k["Q"]
        n, first, last = k["n"], k["f"], k["L"]
        numbers = ",".join((o, h, l, c, v, q, taker_v, taker_q))
    except (KeyError, TypeError):
        return None
    plain = (
        _CANONICAL(numbers) is not None
        # Of equal length, such texts compare as their numbers do.
        and len(o) == len(h) == len(l) == len(c) <= _PRICE_LENGTH_MOST
        and l <= o <= h
        and l <= c <= h
        and l != _ZERO
        and type(t) is type(close_time) is type(n) is type(first) is type(last) is int
        and 0 <= t < codec.TIME_MOST_MS
        and t % SECOND_MS == 0
        and close_time == t + SECOND_MS - 1
        and 0 <= n < _ID_END
        and -1 <= first < _ID_END
        and -1 <= last < _ID_END
    )
    if not plain:
        return None
    wire = {
        "s": symbol, "i": KLINE_INTERVAL, "t": t, "T": close_time, "o": o, "h": h, "l": l, "c": c,
        "v": v, "q": q, "V": taker_v, "Q": taker_q, "n": n, "f": first, "L": last,
    }  # fmt: skip  # one line a kind of field
    return ClosedKline(symbol, t, c, n, first, last, wire)


def _judged(k: dict[str, Any]) -> ClosedKline:
    kline = codec.kline_from(k | {"last_trade_id": None, "origin": Origin.LIVE})
    if kline.first_trade_id is None:
        raise RecordError("f: expected a trade id or -1")
    if kline.last_trade_id_within is None:
        raise RecordError("L: expected a trade id or -1")
    return closed(kline)


def closed(kline: Kline) -> ClosedKline:
    """A kline that another way has checked, of REST for example."""
    wire = codec.kline_object(kline)
    first = -1 if kline.first_trade_id is None else kline.first_trade_id
    last = -1 if kline.last_trade_id_within is None else kline.last_trade_id_within
    return ClosedKline(kline.symbol, kline.open_time_ms, wire["c"], kline.trades, first, last, wire)


def _timely(kline: ClosedKline, now_ms: int) -> ClosedKline:
    if kline.close_time_ms > now_ms + AHEAD_MOST_MS:
        raise RecordError("T: lies ahead of our clock")
    return kline
