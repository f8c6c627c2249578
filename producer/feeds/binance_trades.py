"""Binance's trades, gapless by their ids: aggregates of them (`aggTrade`), or each by itself (`trade`).

    newest 42, of aggregate 7       live 47 of aggregate 10      aggregates 8 and 9 are asked for: fromId=8
    newest 42, a single trade       live 46–50 of an aggregate   single trades from 43 on are asked for: fromId=43

A trade whose numbers are written as the exchange writes them is checked in its text and passed on in it; any other one is judged by
`market.codec`, so that there is one definition of what a trade is. Both ways give the same bytes.

An aggregate that holds ids that are there already beside others that aren't (the stream was changed in the configuration while the feed
was away) can't be used, since nobody can tell its parts apart: the missing ids are had as single trades.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from klinestream.market import codec, decimals
from klinestream.market.errors import RecordError
from klinestream.market.events import BINANCE, SECOND_MS, IdGapState, Origin, Proof, Trade
from klinestream.market.id_continuity import IdContinuity, Span
from klinestream.market.id_continuity import Verdict as Judged
from klinestream.market.reconcile import AggTrade, differences, klines_from_agg_trades
from klinestream.market.topics import TRADE_REPAIRS, TRADES, Topic
from klinestream.runtime.config import Config
from klinestream.runtime.rest import AGG_TRADES_WEIGHT, KLINES_MOST, OLD_TRADES_WEIGHT, TRADES_MOST, Rest
from producer.feeds.interface import Compared, Entry, Out, Promise, Repaired, Settings, Settled, Step, Verdict, Want
from producer.frames import AHEAD_MOST_MS, SHUTDOWN, Passed, Reply, Shutdown, control
from producer.streams import requests, streams_url

AGGREGATED = "aggTrade"
_ID_END = 2**63
_NUMBER = r"(?:0|[1-9][0-9]{0,14})\.[0-9]{8}"
_CANONICAL = re.compile(rf"{_NUMBER},{_NUMBER}").fullmatch
_PRICE_LENGTH_MOST = 19  # ten digits before the point: below what a price may be
_ZERO = "0.00000000"
_LIVE, _IDS = Origin.LIVE.value, Proof.IDS.value
_VERDICTS = {one: Verdict(one.value) for one in Judged}
_REASON = "not obtained within {:g} s"
_FULL = "more than {} trades were held"


class BinanceTrades:
    """The feed `trades`."""

    name = "trades"
    source = BINANCE
    promise = Promise.IDS
    topic: Topic = TRADES

    def __init__(self, config: Config) -> None:
        """As [trades] and [exchange] say."""
        trades, exchange = config.trades, config.exchange
        self._url = streams_url(exchange.websocket_url)
        self._stream = trades.stream
        self._suffix = f"@{trades.stream}"
        self._aggregated = trades.stream == AGGREGATED
        self._held_most = trades.held_most
        self.settings = Settings(
            trades.symbols,
            trades.hold_s,
            trades.metrics_host,
            trades.metrics_port,
            fallback_url=streams_url(exchange.fallback_websocket_url),
            sparse=True,
        )

    def url(self) -> str:
        """Where many streams share a connection."""
        return self._url

    def requests(self, method: str, symbols: Sequence[str], first_id: int) -> list[tuple[int | None, bytes]]:
        """One request for many streams, each answered."""
        return list(requests(method, (symbol.lower() + self._suffix for symbol in symbols), first_id))

    def read(self, raw: bytes, now_ms: int) -> list[Entry] | Passed | Reply | Shutdown:
        """A trade's content is its aggregate's id and its record."""
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
        if event != self._stream:
            raise RecordError(f"e: expected {self._stream}")
        symbol, stream = data.get("s"), frame.get("stream")
        if type(symbol) is not str or stream != symbol.lower() + self._suffix:
            raise RecordError("s: expected the symbol of a stream that was asked for")
        wire = self._plain(data, symbol) or self._judged(data)
        time_ms = wire["T"]
        if time_ms > now_ms + AHEAD_MOST_MS:
            raise RecordError("T: lies ahead of our clock")
        return [Entry(symbol, wire["f"], wire["l"], time_ms, (wire["a"], orjson.dumps(wire)))]

    def _plain(self, data: dict[str, Any], symbol: str) -> dict[str, Any] | None:
        """The record if all of it is written in the usual way and agrees with itself; None leaves the judgement to the codec."""
        try:
            if self._aggregated:
                aggregate, first, last = data["a"], data["f"], data["l"]
                # A type that isn't int makes the whole unusual; so does an id outside of int64.
                if type(aggregate) is not int or not 0 <= aggregate < _ID_END:
                    return None
            else:
                aggregate, first = None, data["t"]
                last = first
            p, q, t, m = data["p"], data["q"], data["T"], data["m"]
            numbers = f"{p},{q}"
        except KeyError:
            return None
        plain = (
            type(p) is type(q) is str
            and _CANONICAL(numbers) is not None
            and len(p) <= _PRICE_LENGTH_MOST
            and p != _ZERO
            and type(t) is type(first) is type(last) is int
            and 0 <= t < codec.TIME_MOST_MS
            and 0 <= first <= last < _ID_END
            and type(m) is bool
            and codec.is_symbol(symbol)
        )
        if not plain:
            return None
        return {
            "s": symbol, "a": aggregate, "f": first, "l": last, "p": p, "q": q, "T": t, "m": m, "c": None,
            "origin": _LIVE, "source": BINANCE, "proof": _IDS,
        }  # fmt: skip  # one line a kind of field

    def _judged(self, data: dict[str, Any]) -> dict[str, Any]:
        ours = {"c": None, "origin": _LIVE, "source": BINANCE, "proof": _IDS}
        single = {} if self._aggregated else {"a": None, "f": data.get("t"), "l": data.get("t")}
        trade = codec.trade_from(data | single | ours)
        if self._aggregated and trade.aggregate_id is None:
            raise RecordError("a: expected an integer from 0")
        if trade.buyer_is_maker is None:
            raise RecordError("m: expected true or false")
        found: dict[str, Any] = orjson.loads(codec.encode_event(trade))
        return found

    def series(self, symbol: str, tail: bytes | None) -> "Trades":
        """Going on after the newest trade of the topic."""
        return Trades(symbol, tail, self._aggregated, self.settings.hold_s, self._held_most)

    def fetch(self, rest: Rest, want: Want) -> list[Entry]:
        """A page of aggregates, or of single trades, from where the want begins."""
        symbol, urgent = want.symbol, want.urgent
        if want.weight == OLD_TRADES_WEIGHT:
            first = want.from_id or 0
            most = TRADES_MOST if want.to_id is None else min(TRADES_MOST, want.to_id - first)
            return [_fetched(symbol, trade, None) for trade in rest.old_trades(symbol, first, most, urgent=urgent)]
        found = rest.agg_trades_from(symbol, from_id=want.cursor, from_ms=want.after_ms or 0, urgent=urgent)
        return [_fetched(symbol, trade, trade.id) for trade in found]

    def missing(self, symbol: str, from_id: int, to_id: int, after_ms: int | None) -> Want:
        """By the time of the trade before them, since the ledger knows no aggregates."""
        if self._aggregated and after_ms is not None:
            return Want(symbol, from_id, to_id, after_ms=after_ms, weight=AGG_TRADES_WEIGHT)
        return Want(symbol, from_id, to_id, after_ms=after_ms, weight=OLD_TRADES_WEIGHT)

    def repair(self, want: Want, answer: list[Entry]) -> Repaired:
        """As many of the missing trades as go on from the first one; where no aggregate begins with it, one by one."""
        out: list[Out] = []
        first = next_id = want.from_id or 0
        end, cursor = want.to_id or 0, want.cursor
        for entry in answer:
            if entry.first_id == next_id and entry.last_id < end:
                out.append(Out(TRADE_REPAIRS.name, entry.content[1], entry.time_ms))
                next_id, cursor = entry.last_id + 1, _after(entry)
        if next_id == first and _straddle(want, answer):
            return Repaired(out, first, replace(want, cursor=None, weight=OLD_TRADES_WEIGHT))
        if next_id == first and answer and answer[-1].last_id < first:
            cursor = _after(answer[-1])  # a whole page lies before it: on to the next one
        return Repaired(out, next_id, replace(want, from_id=next_id, cursor=cursor))

    def compare(self, rest: Rest, symbol: str, values: Sequence[bytes]) -> Compared:
        """Klines made of the trades, field for field beside the exchange's own; the first and the last second may lack trades."""
        trades = [_as_aggregate(codec.decode_trade(value)) for value in values]
        from_ms = trades[0].time_ms // SECOND_MS * SECOND_MS + SECOND_MS
        to_ms = trades[-1].time_ms // SECOND_MS * SECOND_MS
        if to_ms <= from_ms:
            return Compared(0)
        to_ms = min(to_ms, from_ms + KLINES_MOST * SECOND_MS)
        before = [trade.price for trade in trades if trade.time_ms < from_ms]
        made = klines_from_agg_trades(symbol, trades, from_ms, to_ms, before[-1])
        said = {kline.open_time_ms: kline for kline in rest.klines(symbol, from_ms, to_ms)}
        differing: list[str] = []
        detail = ""
        for kline in made:
            other = said.get(kline.open_time_ms)
            fields = ("t",) if other is None else differences(kline, other, quote_slack=kline.trades)
            if fields:
                differing += fields
                detail = detail or f"made of trades: {kline}, the exchange's: {other}"
        return Compared(len(made), tuple(differing), detail)


class Trades:
    """One symbol's trades."""

    def __init__(self, symbol: str, tail: bytes | None, aggregated: bool, hold_s: float, held_most: int) -> None:
        """`tail` is the newest record of the topic."""
        newest = codec.decode_trade(tail) if tail else None
        self._symbol = symbol
        self._aggregated = aggregated
        self._hold_s, self._held_most = hold_s, held_most
        self._machine: IdContinuity[Entry] = IdContinuity(newest.last_id if newest else None)
        self.newest_ms: int | None = newest.time_ms if newest else None
        self._next_aggregate = newest.aggregate_id + 1 if newest and newest.aggregate_id is not None else None
        self._singles = False
        """Aggregates don't give what is missing right after the newest record."""
        self._told: list[Settled] = []
        """Gaps that the ledger calls detected."""
        self._look_back = newest is not None
        """What was traded while nobody listened is asked for, until all is there or a live trade tells what is missing."""

    @property
    def newest_id(self) -> int | None:
        """Up to which id all is published, or was given up."""
        return self._machine.newest_id

    def live(self, entry: Entry) -> Step:
        """See `Series.live`."""
        judged, published = self._machine.live(entry)
        if self._look_back and judged in (Judged.PUBLISH, Judged.HOLD):
            self._look_back = False  # what follows on, or leaves a gap, tells all that looking back could
        if judged is Judged.PUBLISH and not self._told and len(published) == 1:  # nearly all
            self.newest_ms = entry.time_ms
            aggregate, value = entry.content
            self._next_aggregate = None if aggregate is None else aggregate + 1
            return Step(Verdict.PUBLISH, [Out(TRADES.name, value, entry.time_ms)])
        step = self._step(published, _VERDICTS[judged])
        self._detect(step, entry.time_ms)
        if self._machine.held >= self._held_most:
            given_up = self._give_up(_FULL.format(self._held_most))
            step.out += given_up.out
            step.gaps += given_up.gaps
        return step

    def wants(self) -> Sequence[Want]:
        """The first gap; others wait for it."""
        gap = self._machine.first_gap
        if gap is None:
            newest = self._machine.newest_id
            return [self._want(newest + 1, None, urgent=False)] if self._look_back and newest is not None else ()
        return [self._want(*gap, urgent=True)]

    def answered(self, want: Want, answer: list[Entry]) -> Step:
        """Take as much as fits into what is missing."""
        self._look_back = self._look_back and len(answer) == TRADES_MOST
        step = self._step(self._machine.refill(entry for entry in answer if want.from_id is None or entry.first_id >= want.from_id))
        # A late answer is of a gap that is over, or smaller by now: it doesn't say how to have the one that all wait for.
        if (want.from_id, want.to_id) == self._machine.first_gap and _straddle(want, answer):
            self._singles = True
        self._settle(step)
        return step

    def tick(self, _now_ms: int) -> Step:
        """Ids prove all."""
        return Step()

    def give_up(self) -> Step:
        """Go on without what is missing."""
        return self._give_up(_REASON.format(self._hold_s))

    def _want(self, from_id: int, to_id: int | None, *, urgent: bool) -> Want:
        if self._aggregated and not self._singles and self._next_aggregate is not None:
            return Want(self._symbol, from_id, to_id, self._next_aggregate, self.newest_ms, AGG_TRADES_WEIGHT, urgent)
        return Want(self._symbol, from_id, to_id, None, self.newest_ms, OLD_TRADES_WEIGHT, urgent)

    def _step(self, published: list[Entry], verdict: Verdict = Verdict.PUBLISH) -> Step:
        if published:
            newest = published[-1]
            self._singles = False
            self.newest_ms = newest.time_ms
            self._next_aggregate = _after(newest)
        return Step(verdict, [Out(TRADES.name, entry.content[1], entry.time_ms) for entry in published])

    def _detect(self, step: Step, before_ms: int) -> None:
        """Tell of gaps that are new, and of those that are filled."""
        for gap in self._machine.gaps:
            if not any(told.from_id <= gap[0] and gap[1] <= told.to_id for told in self._told):
                found = Settled(*gap, IdGapState.DETECTED, self._before_ms(gap), before_ms)
                self._told.append(found)
                step.gaps.append(found)
        self._settle(step)

    def _before_ms(self, gap: Span) -> int | None:
        """Time of the trade before a gap: held behind an earlier gap, or published."""
        held = self._machine.before(gap)
        return held.time_ms if held else self.newest_ms

    def _settle(self, step: Step) -> None:
        newest = self._machine.newest_id
        for told in [told for told in self._told if newest is not None and newest >= told.to_id - 1]:
            self._told.remove(told)
            step.gaps.append(_became(told, IdGapState.REFILLED, told.to_id - told.from_id))

    def _give_up(self, reason: str) -> Step:
        deferred = [self._deferred(told, gap, reason) for told, gap in self._unfilled()]
        _, published = self._machine.give_up()
        self._told = [told for told in self._told if not any(told.from_id == gap.from_id for gap in deferred)]
        self._singles = False
        step = self._step(published)
        step.gaps += deferred
        self._settle(step)  # of a gap behind the first one all may have been there
        return step

    def _unfilled(self) -> list[tuple[Settled, Span]]:
        """Each gap that lacks something still, and the first of that."""
        gaps = self._machine.gaps
        firsts = ((told, next((gap for gap in gaps if told.from_id <= gap[0] < told.to_id), None)) for told in self._told)
        return [(told, gap) for told, gap in firsts if gap is not None]

    def _deferred(self, told: Settled, left: Span, reason: str) -> Settled:
        """A gap keeps the name that it was detected with; what was obtained of its beginning is in the feed, the rest is fetched on."""
        after_ms = told.after_ms if left[0] == told.from_id else self._before_ms(left)
        return Settled(told.from_id, told.to_id, IdGapState.DEFERRED, after_ms, told.before_ms, left[0] - told.from_id, reason)


def _straddle(want: Want, answer: list[Entry]) -> bool:
    """The answer is of the right place; if nothing of it fits, its aggregates don't begin and end where the missing ids do."""
    return want.weight == AGG_TRADES_WEIGHT and any(entry.last_id >= (want.from_id or 0) for entry in answer)


def _became(told: Settled, state: IdGapState, obtained: int) -> Settled:
    return Settled(told.from_id, told.to_id, state, told.after_ms, told.before_ms, obtained)


def _after(entry: Entry) -> int | None:
    """The id of the aggregate that goes on after an entry."""
    aggregate = entry.content[0]
    return None if aggregate is None else aggregate + 1


def _as_aggregate(trade: Trade) -> AggTrade:
    aggregate = trade.first_id if trade.aggregate_id is None else trade.aggregate_id
    return AggTrade(aggregate, trade.price, trade.quantity, trade.first_id, trade.last_id, trade.time_ms, bool(trade.buyer_is_maker))


def _fetched(symbol: str, trade: AggTrade, aggregate: int | None) -> Entry:
    wire = {
        "s": symbol, "a": aggregate, "f": trade.first_trade_id, "l": trade.last_trade_id,
        "p": decimals.show(trade.price), "q": decimals.show(trade.quantity), "T": trade.time_ms, "m": trade.buyer_is_maker, "c": None,
        "origin": Origin.REST.value, "source": BINANCE, "proof": _IDS,
    }  # fmt: skip  # one line a kind of field
    return Entry(symbol, trade.first_trade_id, trade.last_trade_id, trade.time_ms, (aggregate, orjson.dumps(wire)))
