"""Published klines beside the exchange's own: its klines from REST, and klines built anew from its trades.

    crypto_kline_data  |10: v 1.5|11: v 0.2|12: v 0  |
    REST's klines      |10: v 1.5|11: v 0.3|12: v 0  |     11 differs: Mismatch(second 11, field v, against klines)
    built from trades  |10: v 1.5|11: v 0.3|12: v 0  |     and here, independently: Mismatch(second 11, v, against trades)

Quote volume: a price times a quantity has sixteen decimals, a kline's q and Q have eight. The exchange's documentation doesn't
say where it rounds. Here sums are exact and cut off once, at the end, as the seeded stand-in does it; the recorded stand-in
cuts off each trade. Either way, and if each trade were rounded instead, a sum of n trades is off by n * 1e-8 at most:
so much is let pass between a kline and one built from trades. For most pairs tick * step has eight decimals or fewer,
and nothing is rounded at all. Between published klines and REST's klines nothing is let pass.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from klinestream.market import decimals
from klinestream.market.codec import TIME_MOST_MS, kline_object
from klinestream.market.errors import RecordError
from klinestream.market.events import SECOND_MS, GapState, Kline, Origin, wire_fields
from klinestream.market.second_sums import SecondSums, quiet_second

MARKET_FIELDS = ("o", "h", "l", "c", "v", "q", "V", "Q", "n")
"""Wire names of what a kline says of the market; not where it came from, nor trade ids, which REST doesn't tell."""

_ATTRIBUTES = {name: wire_fields(Kline)[name].name for name in MARKET_FIELDS}
_ROUNDED = frozenset({"q", "Q"})
_ID_END = 2**63
# A gap that was refilled has all its seconds in the feed: it explains nothing that is missing there.
_EXPLAINING = frozenset(GapState) - {GapState.REFILLED}


class Against(enum.StrEnum):
    """What published klines are compared with."""

    KLINES = "klines"
    """REST's klines."""
    TRADES = "trades"
    """Klines built from REST's aggregated trades."""


@dataclass(frozen=True, slots=True)
class AggTrade:
    """Consecutive trades of one price, one taker side and one time, as one."""

    id: int
    price: int
    quantity: int
    first_trade_id: int
    last_trade_id: int
    time_ms: int
    buyer_is_maker: bool

    @property
    def trades(self) -> int:
        """How many trades it stands for."""
        return self.last_trade_id - self.first_trade_id + 1


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A field of a published kline that isn't what the exchange says."""

    symbol: str
    open_time_ms: int
    field: str
    """Wire name."""
    against: Against
    published: str
    other: str
    """The exchange's value; like `published` as text on the wire."""


def differences(published: Kline, other: Kline, quote_slack: int = 0) -> tuple[str, ...]:
    """Wire names of the market fields that differ; q and Q may be off by `quote_slack` times 1e-8.

    Raises ValueError if they are not klines of the same second of the same symbol.
    """
    if (published.symbol, published.open_time_ms) != (other.symbol, other.open_time_ms):
        raise ValueError(
            f"expected klines of one second, got {published.symbol} {published.open_time_ms} and {other.symbol} {other.open_time_ms}"
        )
    differing = []
    for name, attribute in _ATTRIBUTES.items():
        slack = quote_slack if name in _ROUNDED else 0
        if abs(getattr(published, attribute) - getattr(other, attribute)) > slack:
            differing.append(name)
    return tuple(differing)


def mismatches(published: Iterable[Kline], others: Mapping[int, Kline], against: Against) -> Iterator[Mismatch]:
    """What differs between published klines and the exchange's, by open time; seconds that it lacks are passed over."""
    for kline in published:
        other = others.get(kline.open_time_ms)
        if other is None:
            continue
        names = differences(kline, other, other.trades if against is Against.TRADES else 0)
        if names:
            ours, theirs = kline_object(kline), kline_object(other)
            for name in names:
                yield Mismatch(kline.symbol, kline.open_time_ms, name, against, str(ours[name]), str(theirs[name]))


def klines_from_agg_trades(symbol: str, trades: Iterable[AggTrade], from_ms: int, to_ms: int, close_before: int | None) -> list[Kline]:
    """The klines of the seconds that open in [from_ms, to_ms), made from their trades alone; trades come in order.

    `close_before` is the last price before `from_ms`, which a quiet second carries on. If it is None, quiet seconds
    before the first trade are left out. Trades outside of the span are passed over. Exact, but for q and Q: cut off
    after the eighth decimal of the sum.
    """
    built: dict[int, SecondSums] = {}
    for trade in trades:
        if from_ms <= trade.time_ms < to_ms:
            opened = trade.time_ms // SECOND_MS * SECOND_MS
            second = built.get(opened)
            if second is None:
                second = built[opened] = SecondSums(trade.price, trade.first_trade_id)
            second.add(trade.price, trade.quantity, trade.first_trade_id, trade.last_trade_id, buyer_is_maker=trade.buyer_is_maker)
    klines: list[Kline] = []
    close, last_trade_id = close_before, None
    for opened in range(from_ms, to_ms, SECOND_MS):
        second = built.get(opened)
        if second is not None:
            close, last_trade_id = second.close, second.last_trade_id
            klines.append(second.kline(symbol, opened, Origin.REST))
        elif close is not None:
            klines.append(quiet_second(symbol, opened, close, last_trade_id, Origin.REST))
    return klines


def references(
    symbol: str, klines: Iterable[Kline], trades: Iterable[AggTrade] | None, from_ms: int, to_ms: int
) -> dict[Against, dict[int, Kline]]:
    """What the seconds of a span are compared with, by open time: REST's klines, and those built from its trades if there are any.

    `klines` begin a second before the span, since its first second may be quiet.
    """
    by_time = {kline.open_time_ms: kline for kline in klines}
    before = by_time.pop(from_ms - SECOND_MS, None)
    found = {Against.KLINES: by_time}
    if trades is not None:
        built = klines_from_agg_trades(symbol, trades, from_ms, to_ms, before.close if before else None)
        found[Against.TRADES] = {kline.open_time_ms: kline for kline in built}
    return found


@dataclass(frozen=True, slots=True)
class Missing:
    """Seconds of a symbol that follow each other and are not in the feed."""

    symbol: str
    from_ms: int
    to_ms: int
    """Open time of the first second after them."""
    word: GapState | None
    """What the ledger says of them, if anything."""

    @property
    def seconds(self) -> int:
        """How many they are."""
        return (self.to_ms - self.from_ms) // SECOND_MS

    @property
    def explained(self) -> bool:
        """The ledger knows that they are not in the feed."""
        return self.word in _EXPLAINING


def missing_spans(symbol: str, there: Iterable[int], from_ms: int, to_ms: int, known: Iterable[tuple[int, int, GapState]]) -> list[Missing]:
    """The seconds of a span that are not there (open times), in order, each with the ledger's word for it.

    `known` are the symbol's gaps in the ledger; where several hold a second, the furthest state counts that explains it.

    >>> spans = missing_spans("BTCUSDT", [0, 3000], 0, 5000, [(1000, 2000, GapState.DEFERRED)])
    >>> [(span.from_ms, span.to_ms, span.word and span.word.value) for span in spans]
    [(1000, 2000, 'deferred'), (2000, 3000, None), (4000, 5000, None)]
    """
    gone = sorted(set(range(from_ms, to_ms, SECOND_MS)) - set(there))
    known = list(known)
    spans: list[Missing] = []
    for opened in gone:
        word = _word(opened, known)
        if spans and spans[-1].to_ms == opened and spans[-1].word is word:
            spans[-1] = Missing(symbol, spans[-1].from_ms, opened + SECOND_MS, word)
        else:
            spans.append(Missing(symbol, opened, opened + SECOND_MS, word))
    return spans


def agg_trade_of(item: Any) -> AggTrade:
    """An item of REST's aggregated trades; raises RecordError."""
    if not isinstance(item, dict):
        raise RecordError("not a JSON object")
    price, quantity = _amount(item, "p"), _amount(item, "q")
    first, last, time_ms = _integer(item, "f", _ID_END), _integer(item, "l", _ID_END), _integer(item, "T", TIME_MOST_MS)
    if first > last:
        raise RecordError("f, l: expected the first trade's id not above the last one's")
    if not isinstance(item.get("m"), bool):
        raise RecordError("m: expected true or false")
    return AggTrade(_integer(item, "a", _ID_END), price, quantity, first, last, time_ms, item["m"])


def single_trade_of(item: Any) -> AggTrade:
    """An item of REST's historicalTrades, as if it were an aggregate of one trade with the trade's own id; raises RecordError."""
    if not isinstance(item, dict):
        raise RecordError("not a JSON object")
    number = item.get("id")
    return agg_trade_of(
        {
            "a": number,
            "f": number,
            "l": number,
            "p": item.get("price"),
            "q": item.get("qty"),
            "T": item.get("time"),
            "m": item.get("isBuyerMaker"),
        }
    )


def _word(opened: int, known: Iterable[tuple[int, int, GapState]]) -> GapState | None:
    order = tuple(GapState)
    said = [state for start, end, state in known if start <= opened < end]
    return max(said, key=lambda state: (state in _EXPLAINING, order.index(state)), default=None)


def _amount(item: dict[str, Any], name: str) -> int:
    try:
        amount = decimals.parse(item.get(name))
    except RecordError as error:
        raise RecordError(f"{name}: {error}") from None
    if not amount:
        raise RecordError(f"{name}: expected more than 0")
    return amount


def _integer(item: dict[str, Any], name: str, end: int) -> int:
    value = item.get(name)
    if type(value) is not int or not 0 <= value < end:
        raise RecordError(f"{name}: expected an integer from 0, got {str(value)[:40]!r}")
    return value
