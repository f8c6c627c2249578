"""Binance's order books, kept in step by their update ids and published with what follows from them.

    diffs ─► LiveBook, one a symbol ─► crypto_order_book
                │ wanting                a snapshot of REST, at the start, after a gap, and each hour to compare with
                └─► Feed.fetch

A missing update can't be had from anywhere. So no gap is refilled: the book begins anew with a snapshot, nothing is published in
between, and the ledger says so. What a process that starts has missed since the newest record of the topic is told as such a gap.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from klinestream.market import codec
from klinestream.market.errors import ExchangeError, RecordError
from klinestream.market.events import BINANCE, IdGapState, OrderBook
from klinestream.market.live_book import Change, LiveBook, Taken
from klinestream.market.order_book import Diff, Snapshot, levels_of, snapshot_of
from klinestream.market.topics import ORDER_BOOK, Topic
from klinestream.runtime.config import Config
from klinestream.runtime.rest import Rest, depth_weight
from producer.feeds.interface import Entry, Out, Promise, Settings, Settled, Step, Verdict, Want
from producer.frames import AHEAD_MOST_MS, SHUTDOWN, Passed, Reply, Shutdown, control
from producer.streams import requests, streams_url

_EVENT = "depthUpdate"
_SUFFIX = "@depth@100ms"
_ID_END = 2**63
_PATIENCE_S = 60.0  # of a snapshot that doesn't come: nothing can be given up, so the request is only sent anew
_VERDICTS = {Taken.APPLIED: Verdict.PUBLISH, Taken.HELD: Verdict.HOLD, Taken.DUPLICATE: Verdict.DUPLICATE}
_AWAY = "the feed was away; anew from a snapshot at {}"


class BinanceBooks:
    """The feed `books`."""

    name = "books"
    source = BINANCE
    promise = Promise.IDS
    topic: Topic = ORDER_BOOK

    def __init__(self, config: Config) -> None:
        """As [books] and [exchange] say."""
        books, exchange = config.books, config.exchange
        self._url = streams_url(exchange.websocket_url)
        self._every_ms, self._levels, self._bands = books.every_ms, books.levels, books.bands
        self._weight = depth_weight(books.levels)
        self.settings = Settings(
            books.symbols,
            _PATIENCE_S,
            books.metrics_host,
            books.metrics_port,
            fallback_url=streams_url(exchange.fallback_websocket_url),
            sparse=True,
        )

    def url(self) -> str:
        """Where many streams share a connection."""
        return self._url

    def requests(self, method: str, symbols: Sequence[str], first_id: int) -> list[tuple[int | None, bytes]]:
        """One request for many streams, each answered."""
        return list(requests(method, (symbol.lower() + _SUFFIX for symbol in symbols), first_id))

    def read(self, raw: bytes, now_ms: int) -> list[Entry] | Passed | Reply | Shutdown:
        """An entry's content is its diff."""
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
        if event != _EVENT:
            raise RecordError(f"e: expected {_EVENT}")
        symbol = data.get("s")
        if type(symbol) is not str or frame.get("stream") != symbol.lower() + _SUFFIX:
            raise RecordError("s: expected the symbol of a stream that was asked for")
        diff = _diff(data)
        if diff.time_ms > now_ms + AHEAD_MOST_MS:
            raise RecordError("E: lies ahead of our clock")
        return [Entry(symbol, diff.first_id, diff.last_id, diff.time_ms, diff)]

    def series(self, symbol: str, tail: bytes | None) -> "Books":
        """A book begins anew with each process; the topic's newest record only says what was missed."""
        newest = codec.decode_event(OrderBook, tail) if tail else None
        return Books(symbol, LiveBook(symbol, self._every_ms, self._bands), newest, self._weight)

    def fetch(self, rest: Rest, want: Want) -> Snapshot:
        """The book as it stands."""
        try:
            return snapshot_of(rest.depth(want.symbol, self._levels, urgent=want.urgent), self._levels)
        except RecordError as error:
            raise ExchangeError(f"expected the book of {want.symbol}, got one that can't be ({error}): check exchange.rest_url") from None


class Books:
    """One symbol's book."""

    def __init__(self, symbol: str, live: LiveBook, newest: OrderBook | None, weight: int) -> None:
        """`newest` is the newest record of the topic."""
        self._symbol = symbol
        self._live = live
        self._before = newest
        self._weight = weight
        self.newest_ms: int | None = newest.time_ms if newest else None
        self.newest_id: int | None = None

    def live(self, entry: Entry) -> Step:
        """See `Series.live`."""
        change = self._live.take(entry.content)
        return self._step(change, _VERDICTS[change.taken])

    def wants(self) -> Sequence[Want]:
        """A snapshot; at once where records that others wait for have stopped."""
        if not self._live.wanting:
            return ()
        return (Want(self._symbol, None, None, after_ms=self.newest_ms, weight=self._weight, urgent=self._live.gap is not None),)

    def answered(self, _want: Want, answer: Snapshot) -> Step:
        """Take a snapshot."""
        return self._step(self._live.answer(answer))

    def tick(self, _now_ms: int) -> Step:
        """Ids prove all."""
        return Step()

    def give_up(self) -> Step:
        """A book that lacks updates is no book: there is nothing to go on with."""
        return Step()

    def _step(self, change: Change, verdict: Verdict = Verdict.PUBLISH) -> Step:
        step = Step(verdict, withheld=change.withheld)
        for gap, state, reason in change.gaps:
            step.gaps.append(Settled(gap.from_id, gap.to_id, state, gap.after_ms, gap.before_ms, reason=reason))
        for book in change.books:
            if self._before is not None:
                step.gaps += _missed(self._before, book)
                self._before = None
            step.out.append(Out(ORDER_BOOK.name, codec.encode_event(book), book.time_ms))
            self.newest_ms, self.newest_id = book.time_ms, book.last_update_id
        return step


def _missed(before: OrderBook, first: OrderBook) -> list[Settled]:
    """What lies between the topic's newest record and the first one of this process."""
    begin, end = before.last_update_id + 1, first.since_id + 1
    if begin >= end:
        return []
    reason = _AWAY.format(first.since_id)
    return [Settled(begin, end, IdGapState.RESYNCHRONISED, before.time_ms, first.time_ms, reason=reason)]


def _diff(data: dict[str, Any]) -> Diff:
    first, last, time_ms = data.get("U"), data.get("u"), data.get("E")
    if type(first) is not int or type(last) is not int or not 0 <= first <= last < _ID_END:
        raise RecordError("U, u: expected ids, U not after u")
    if type(time_ms) is not int or not 0 <= time_ms < codec.TIME_MOST_MS:
        raise RecordError("E: expected ms since 1970")
    sides = []
    for name in ("b", "a"):
        try:
            sides.append(levels_of(data.get(name)))
        except RecordError as error:
            raise RecordError(f"{name}: {error}") from None
    return Diff(first, last, time_ms, *sides)
