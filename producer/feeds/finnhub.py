"""Finnhub's trades, of stocks, exchange rates and coins: each by itself, and klines of a second made of them.

    {"type":"trade","data":[AAPL, AAPL, TSLA]} ─► AAPL 41 ─► crypto_trades
                                                  AAPL 42        │ closed by a later trade, or by the clock
                                                  TSLA 17        └─► crypto_kline_data

A trade has no id, so nothing proves that none is missing (proof none). The numbers are ours, counted for each symbol, going on after what
the topics hold. Where it is known that trades may be missing, after a lost connection and at each start, one number is left out, which the
ledger calls unfillable, and klines begin a new run (`klinestream.market.second_builder`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from urllib.parse import quote

import orjson

from klinestream.market.codec import TIME_MOST_MS, decode_trade, encode_event, encode_kline, is_symbol
from klinestream.market.continuity import Tail
from klinestream.market.decimals import PRICE_MOST, UNIT, WHOLE_DIGITS, nearest
from klinestream.market.errors import ConfigError, ExchangeError, RecordError
from klinestream.market.events import SECOND_MS, IdGapState, Kline, Origin, Proof, Trade
from klinestream.market.second_builder import SecondBuilder
from klinestream.market.topics import KLINES, TRADES
from klinestream.market.venues import name_of, symbol_of
from klinestream.runtime.config import Config
from klinestream.runtime.rest import Rest
from producer.feeds.interface import NO_ID, Entry, Immediate, Out, Promise, Settings, Settled, Step, Unusable, Want
from producer.frames import Passed, Reply
from producer.tails import Tails

SOURCE = "finnhub"
LATE = "t: its second is closed"
AHEAD_MOST_MS = 2000
"""A trade further ahead of our clock would close seconds that others are still to come for."""
_CONDITIONS_MOST, _CONDITION_MOST = 32, 32
_VALUE_END = UNIT * UNIT * 10**WHOLE_DIGITS  # of price times quantity: what a kline's q can tell
_ERROR_MOST = 200
_PAUSE_S = 0.05
_TYPES = {"SUBSCRIBE": "subscribe", "UNSUBSCRIBE": "unsubscribe"}
_TOKEN = "KLINESTREAM_FINNHUB__TOKEN"  # noqa: S105  # where it comes from


class _Number(str):
    """A number of JSON's as it was written."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Said:
    """What a message says of a trade, and that part of it."""

    price: int
    quantity: int
    conditions: tuple[str, ...] | None
    item: dict[str, Any]


class Finnhub:
    """See `producer.feeds.interface.Feed`."""

    name, source, promise, topic = SOURCE, SOURCE, Promise.NONE, TRADES

    def __init__(self, config: Config) -> None:
        """Raises ConfigError without a token, or without anything to follow."""
        section = config.finnhub
        self._token = section.token.get_secret_value()
        if not self._token:
            raise ConfigError(
                f"finnhub.token: expected Finnhub's key in the environment variable {_TOKEN}, found none: finnhub.io gives one"
            )
        if not section.symbols:
            raise ConfigError("finnhub.symbols: expected at least one of Finnhub's names, such as AAPL or BINANCE:BTCUSDT, got none")
        self._base = section.websocket_url.rstrip("/")
        self._grace_ms = round(section.grace_s * SECOND_MS)
        self.settings = Settings(
            tuple(symbol_of(SOURCE, name) for name in section.symbols),
            metrics_host=section.metrics_host,
            metrics_port=section.metrics_port,
            one_connection=True,
            sparse=True,
            request_pause_s=_PAUSE_S,
        )
        self._newest_klines = Tails(config.kafka, f"klinestream-{SOURCE}").newest

    def url(self) -> str:
        """With the key in its query."""
        return f"{self._base}?token={quote(self._token, safe='')}"

    def requests(self, method: str, symbols: Sequence[str], first_id: int) -> list[tuple[int | None, bytes]]:  # noqa: ARG002  # no ids
        """A message a symbol; what can't be had is answered by an error without a name."""
        return [(None, orjson.dumps({"type": _TYPES[method], "symbol": name_of(symbol)})) for symbol in symbols]

    def read(self, raw: bytes, now_ms: int) -> list[Entry | Unusable] | Passed | Reply:
        """The trades of a message, each judged by itself."""
        try:
            said = json.loads(raw.decode(), parse_float=_Number, parse_int=_Number, parse_constant=_Number)
        except (ValueError, RecursionError):
            raise RecordError("not JSON") from None
        if not isinstance(said, dict):
            raise RecordError("not a JSON object")
        match said.get("type"):
            case "ping":
                return Passed.PING
            case "error":
                return Reply(None, str(said.get("msg"))[:_ERROR_MOST].replace(self._token, "(the key)"))
            case "trade":
                pass
            case _:
                raise RecordError("type: expected trade, ping or error")
        trades = said.get("data")
        if not isinstance(trades, list):
            raise RecordError("data: expected a list of trades")
        return [_entry(item, now_ms) for item in trades]

    def series(self, symbol: str, tail: bytes | None) -> "FinnhubSeries":
        """Going on after the newest trade and the newest kline, whichever is further: after a kill the topics may differ."""
        return FinnhubSeries(symbol, self._grace_ms, tail, self._newest_klines([symbol]).get(symbol))

    def fetch(self, rest: Rest, want: Want) -> NoReturn:  # noqa: ARG002  # see `Feed`
        """Nothing can be asked for."""
        raise ExchangeError("expected nothing to fetch: Finnhub gives no missing trades")


class FinnhubSeries(Immediate):
    """One symbol: numbers its trades, and closes its seconds."""

    def __init__(self, symbol: str, grace_ms: int, tail: bytes | None, kline: Tail | None) -> None:
        """After the newest record of each topic; what was traded since then nobody tells."""
        trade = decode_trade(tail) if tail else None
        ids = [trade.last_id] if trade else []
        if kline is not None and kline.last_trade_id is not None:
            ids.append(kline.last_trade_id)
        self.newest_id: int | None = max(ids, default=None)
        self.newest_ms = trade.time_ms if trade else None
        self._symbol = symbol
        self._broken = True
        self._builder = SecondBuilder(symbol, grace_ms, closed_ms=kline.open_time_ms + SECOND_MS if kline else 0, whole=False)

    def live(self, entry: Entry) -> Step:
        """Give a trade its number, unless it is too late for its second."""
        said: _Said = entry.content
        if self._builder.is_late(entry.time_ms):
            return Step(letters=[Unusable(LATE, _text(said.item))])
        number = 1 if self.newest_id is None else self.newest_id + 1
        gaps = []
        if self._broken and self.newest_id is not None:
            gaps.append(self._left_out(number, entry.time_ms))
            number += 1
        self._broken = False
        trade = Trade(
            symbol=self._symbol,
            aggregate_id=None,
            first_id=number,
            last_id=number,
            price=said.price,
            quantity=said.quantity,
            time_ms=entry.time_ms,
            buyer_is_maker=None,
            conditions=said.conditions,
            origin=Origin.LIVE,
            source=SOURCE,
            proof=Proof.NONE,
        )
        klines = self._builder.add(trade)
        self.newest_id, self.newest_ms = number, max(entry.time_ms, self.newest_ms or 0)
        return Step(out=[Out(TRADES.name, encode_event(trade), entry.time_ms), *map(_record, klines)], gaps=gaps)

    def tick(self, now_ms: int) -> Step:
        """Close what the clock closes."""
        return Step(out=[_record(kline) for kline in self._builder.tick(now_ms)])

    def interrupted(self) -> None:
        """The connection was lost: until the next one is heard, trades may be missing."""
        self._broken = True
        self._builder.break_off()

    def _left_out(self, number: int, time_ms: int) -> Settled:
        why = "not connected: how many trades are missing, if any, Finnhub doesn't tell"
        return Settled(number, number + 1, IdGapState.UNFILLABLE, self.newest_ms, time_ms, reason=why)


def _record(kline: Kline) -> Out:
    return Out(KLINES.name, encode_kline(replace(kline, source=SOURCE, proof=Proof.NONE)), kline.close_time_ms)


def _entry(item: Any, now_ms: int) -> Entry | Unusable:
    try:
        if not isinstance(item, dict):
            raise RecordError("data: expected objects")
        symbol, time_ms = _symbol(item.get("s")), _time_ms(item.get("t"), now_ms)
        said = _Said(_price(item.get("p")), _quantity(item.get("v")), _conditions(item.get("c")), item)
        if said.price * said.quantity >= _VALUE_END:
            raise RecordError(f"p, v: expected a value below 1e{WHOLE_DIGITS}")
    except RecordError as error:
        return Unusable(str(error), _text(item))
    return Entry(symbol, NO_ID, NO_ID, time_ms, said)


def _text(item: Any) -> bytes:
    try:
        return orjson.dumps(_as_it_was(item))
    except (TypeError, RecursionError):  # half a character, or nested too deeply: what Python makes of it tells enough
        return ascii(item).encode()


def _as_it_was(value: Any) -> Any:
    """A part of a message as its sender wrote it, numbers to the last digit."""
    if isinstance(value, _Number):
        return orjson.Fragment(str(value))
    if isinstance(value, dict):
        return {name: _as_it_was(item) for name, item in value.items()}
    return [_as_it_was(item) for item in value] if isinstance(value, list) else value


def _symbol(name: Any) -> str:
    symbol = symbol_of(SOURCE, name) if type(name) is str else ""
    if not is_symbol(symbol):
        raise RecordError("s: expected letters, digits or _ - . :, with FINNHUB: before it 50 at most")
    return symbol


def _time_ms(text: Any, now_ms: int) -> int:
    if not isinstance(text, _Number) or not text.isdigit() or len(text) > len(str(TIME_MOST_MS)) or int(text) >= TIME_MOST_MS:
        raise RecordError("t: expected ms since 1970")
    if int(text) > now_ms + AHEAD_MOST_MS:
        raise RecordError("t: lies ahead of our clock")
    return int(text)


def _price(text: Any) -> int:
    price = _amount("p", text)
    if not 0 < price <= PRICE_MOST:
        raise RecordError("p: expected a price of at least 1e-8, and below 9.2e10")
    return price


def _quantity(text: Any) -> int:
    return _amount("v", text)


def _amount(name: str, text: Any) -> int:
    try:
        return nearest(text if isinstance(text, _Number) else "")
    except RecordError:
        raise RecordError(f"{name}: expected a number from 0 below 1e{WHOLE_DIGITS}") from None


def _conditions(codes: Any) -> tuple[str, ...] | None:
    if codes is None:
        return None
    if not isinstance(codes, list) or len(codes) > _CONDITIONS_MOST:
        raise RecordError(f"c: expected null or up to {_CONDITIONS_MOST} codes")
    if not all(type(code) is str and len(code) <= _CONDITION_MOST for code in codes):
        raise RecordError(f"c: expected codes of up to {_CONDITION_MOST} characters")
    return tuple(codes)
