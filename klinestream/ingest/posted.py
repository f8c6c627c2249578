"""Posted klines and trades as records of their topics, under their source's name. Pure.

A symbol never goes out bare: AAPL posted by the source `stocks` becomes STOCKS:AAPL, so that nobody can post for the exchange.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from klinestream.ingest.models import KlinePost, Model, TradePost, read
from klinestream.ingest.refusals import FAULTS_MOST, Fault, PostError, shown, unfit
from klinestream.market import decimals
from klinestream.market.codec import checked, encode_event, encode_kline
from klinestream.market.errors import RecordError
from klinestream.market.events import BINANCE, SECOND_MS, Kline, Origin, Proof, Trade
from klinestream.market.topics import KLINES, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION, TRADES, Topic
from klinestream.runtime.kafka import Record

AHEAD_MOST_MS = 10_000
"""How far a poster's clock may be ahead of ours: what ends later than that has not ended."""
DEFAULT_SOURCE = "ingest"
RESERVED = frozenset({BINANCE, "finnhub"})
"""Sources that have feeds of their own."""
_SOURCE = re.compile(r"[a-z0-9]{1,16}", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Posted:
    """What one request becomes."""

    topic: Topic
    source: str
    count: int
    records: Sequence[Record]
    shares: Sequence[int] = field(default=())
    """How many posted records are in each record, where it isn't one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Under what a request's records are taken."""

    source: str
    now_ms: int
    claimed_ms: int = 0
    """When its key was claimed first, if it was: what was in time then is so still, or a retry would never get its answer."""

    @property
    def judged_ms(self) -> int:
        """As of when its times are judged."""
        return self.claimed_ms or self.now_ms

    def symbol(self, bare: str) -> str:
        """A symbol with its source."""
        return f"{self.source.upper()}:{bare}"

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        """The headers of its records."""
        return ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % self.now_ms))


def source_of(asked: str | None, bound: str) -> str:
    """The source of a request: that of its token (`bound`), else what it asks for; raises PostError.

    >>> source_of(None, ""), source_of("stocks", ""), source_of(None, "stocks")
    ('ingest', 'stocks', 'stocks')
    """
    source = (asked or bound or DEFAULT_SOURCE).lower()
    if bound and source != bound:
        raise PostError(403, "source", f"the source {bound}, which the token is for", shown(asked), "leave the parameter source out")
    if not _SOURCE.fullmatch(source):
        raise PostError(422, "source", "source: up to 16 letters and digits", shown(asked), "send another source")
    if source in RESERVED:
        raise PostError(422, "source", "source: one without a feed of its own", shown(asked), "send another source")
    return source


def collected(values: Sequence[object], model: type[Model], check: Callable[[int, Model], T | Fault]) -> list[T]:
    """Each value read by its model and checked; raises PostError that tells the first faults of all."""
    found: list[T] = []
    faults: list[Fault] = []
    for number, value in enumerate(values):
        one = read(model, number, value)
        if isinstance(one, list):
            faults += one
        else:
            fit = check(number, one)
            if isinstance(fit, Fault):
                faults.append(fit)
            else:
                found.append(fit)
        if len(faults) >= FAULTS_MOST:
            break
    if faults:
        raise unfit(faults[:FAULTS_MOST])
    return found


def klines(values: Sequence[object], asked: Asked) -> Posted:
    """Records of `crypto_kline_data`; raises PostError."""
    newest: dict[str, int] = {}

    def check(number: int, post: KlinePost) -> Record | Fault:
        try:
            kline = _kline(post, asked)
        except RecordError as error:
            where, _, expected = str(error).partition(": ")
            return Fault(number, where, expected, shown({name: getattr(post, name, None) for name in where.split(", ")}))
        return (
            out_of_time(number, "t", kline.close_time_ms, asked.judged_ms, KLINES)
            or not_after(number, "t", post.s, kline.open_time_ms, newest)
            or _record(KLINES, kline.symbol, encode_kline(kline), kline.close_time_ms, asked)
        )

    return Posted(KLINES, asked.source, len(values), collected(values, KlinePost, check))


def trades(values: Sequence[object], asked: Asked) -> Posted:
    """Records of `crypto_trades`; raises PostError."""
    newest: dict[str, int] = {}
    times: dict[str, int] = {}

    def check(number: int, post: TradePost) -> Record | Fault:
        trade = _trade(post, asked)
        if trade.last_id < trade.first_id:
            return Fault(number, "l", "an id from f on", shown(post.l))
        if not 0 < trade.price <= decimals.PRICE_MOST:
            return Fault(number, "p", "a price above 0 and below 9.2e10", shown(post.p))
        fault = not_after(number, "f", post.s, trade.first_id, newest)
        if fault is None and trade.time_ms < times.get(post.s, 0):
            fault = Fault(number, "T", f"a time from that of the trade before it on, {times[post.s]}", shown(post.T))
        newest[post.s], times[post.s] = trade.last_id, trade.time_ms
        late = out_of_time(number, "T", trade.time_ms, asked.judged_ms, TRADES)
        return fault or late or _record(TRADES, trade.symbol, encode_event(trade), trade.time_ms, asked)

    return Posted(TRADES, asked.source, len(values), collected(values, TradePost, check))


def out_of_time(number: int, name: str, time_ms: int, now_ms: int, topic: Topic) -> Fault | None:
    """What the topic would refuse, or drop at once."""
    return ahead(number, name, time_ms, now_ms) or too_old(number, name, time_ms, now_ms, topic)


def ahead(number: int, name: str, time_ms: int, now_ms: int) -> Fault | None:
    """What has not ended yet."""
    if time_ms > now_ms + AHEAD_MOST_MS:
        return Fault(number, name, f"a time that is over: up to {now_ms}", str(time_ms))
    return None


def too_old(number: int, name: str, time_ms: int, now_ms: int, topic: Topic) -> Fault | None:
    """A record that the topic would drop at once."""
    if time_ms < now_ms - topic.retention_ms:
        oldest = f"a time from {now_ms - topic.retention_ms} on: {topic.name} keeps nothing older (import files for that)"
        return Fault(number, name, oldest, str(time_ms))
    return None


def not_after(number: int, name: str, symbol: str, place: int, newest: dict[str, int]) -> Fault | None:
    """A record that doesn't come after the one of its symbol before it in the request."""
    before = newest.get(symbol, -1)
    newest[symbol] = max(before, place)
    if place > before:
        return None
    return Fault(number, name, f"records of {symbol} in order, each once: one after {before}", str(place))


def _record(topic: Topic, symbol: str, value: bytes, time_ms: int, asked: Asked) -> Record:
    return Record(topic.name, symbol.encode(), value, time_ms, asked.headers())


def _kline(post: KlinePost, asked: Asked) -> Kline:
    parse = decimals.parse
    kline = Kline(
        symbol=asked.symbol(post.s),
        open_time_ms=post.t,
        close_time_ms=post.t + SECOND_MS - 1 if post.T is None else post.T,
        open=parse(post.o),
        high=parse(post.h),
        low=parse(post.l),
        close=parse(post.c),
        base_volume=parse(post.v),
        quote_volume=parse(post.q),
        taker_base_volume=parse(post.V),
        taker_quote_volume=parse(post.Q),
        trades=post.n,
        first_trade_id=post.f,
        last_trade_id_within=post.L,
        last_trade_id=post.last_trade_id,
        origin=Origin.POSTED,
        source=asked.source,
        proof=Proof.NONE,
    )
    if kline.taker_base_volume > kline.base_volume or kline.taker_quote_volume > kline.quote_volume:
        raise RecordError("V, Q: expected at most v and q")
    return checked(kline)


def _trade(post: TradePost, asked: Asked) -> Trade:
    return Trade(
        symbol=asked.symbol(post.s),
        aggregate_id=post.a,
        first_id=post.f,
        last_id=post.f if post.l is None else post.l,
        price=decimals.parse(post.p),
        quantity=decimals.parse(post.q),
        time_ms=post.T,
        buyer_is_maker=post.m,
        conditions=None if post.c is None else tuple(post.c),
        origin=Origin.POSTED,
        source=asked.source,
        proof=Proof.NONE,
    )
