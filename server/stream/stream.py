"""Version 2 of the websocket: who follows which series, and what they get. All of it runs in the event loop's thread.

    windows ────────────────────────────────► history ─┐
    order books ────────────────► their newest, store ─┤
    candles, indicators, signals ─► store (its thread) ├─► answers to a subscribe
                       └─► live ─► tail ───────────────┘
    all of it, live ─► parts, one a series, encoded once ─► a tick for each audience ─┬─► written to sockets that are free
                                                                                  └─► outboxes of the other clients

What waits for a client, and is sent in which order, is decided in `outbox`; who follows the same, in `audiences`.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from klinestream.market.kinds import RecordKind
from klinestream.runtime.server_sections import ServerConfig
from server import history
from server.books.records import Book
from server.books.store import BookStore
from server.candles.store import CandleStore
from server.client import POLICY_VIOLATION, Client, Closed, Follower
from server.link import binary_frame, text_frame
from server.outbox import Moment
from server.protocol import MessageError
from server.stream import messages, requests
from server.stream.answers import Answer, Archivist, is_of
from server.stream.audiences import Audiences
from server.stream.encoding import ENCODINGS, Encoding
from server.stream.messages import Cursor, Part
from server.stream.outbox import StreamOutbox
from server.stream.requests import Selection, Subscribe, rules_of
from server.stream.series import Item, Positions, Series
from server.stream.tail import Tail

SYMBOLS_MOST = 10_000
TOO_SLOW = "too slow: more was asked than was read"
TOLD_AT_ONCE = 32
"""Updates written between two looks at the clock."""


class Stream:
    """The clients of version 2. `now_ms` is the wall clock."""

    def __init__(
        self,
        config: ServerConfig,
        windows: history.History,
        store: CandleStore,
        now_ms: Callable[[], int],
        books: BookStore | None = None,
    ) -> None:
        """Start with nobody; `windows`, `store` and `books` are filled by others."""
        self.changes = 0
        """How often a symbol got its first follower, or lost its last one."""
        self.on_written: Callable[[Moment, int], None] = lambda *_: None
        """Told of each update that was written to so many clients without waiting."""
        self._config = config
        self._now_ms = now_ms
        self._windows = windows
        self._store = store
        self._tail = Tail()
        self._books = BookStore() if books is None else books
        self._archivist = Archivist(windows, store, self._tail, self._books)
        self._clients: set[Client] = set()
        self._audiences = Audiences()
        self._symbols: Counter[str] = Counter()
        self._met: set[str] = set()
        self._newest_ms: dict[RecordKind, int] = {}

    def followers(self) -> Mapping[str, int]:
        """Symbol → how many clients follow any of its series."""
        return self._symbols

    def join(self, client: Client, encoding: Encoding) -> Follower:
        """From now on the client speaks version 2."""
        follower = client.follower = Follower(encoding, StreamOutbox(self._config.client_queue, encoding))
        self._clients.add(client)
        return follower

    def leave(self, client: Client) -> None:
        """Forget a client."""
        if client.follower is not None:
            self._unfollow(client.follower, tuple(client.follower.series))
            self._audiences.place(client, client.follower)
        self._clients.discard(client)

    def handle(self, client: Client, follower: Follower, message: dict[str, object]) -> None:
        """Do what a client's message says and queue the answer; raises MessageError and Closed."""
        request = requests.read(message)
        if isinstance(request, Subscribe):
            self._subscribe(client, follower, request)
        else:
            self._unsubscribe(client, follower, request.selection)

    def fault(self, client: Client, follower: Follower, fault: MessageError) -> None:
        """Tell a client that its message can't be used; raises Closed."""
        self._reply(client, follower, iter((messages.error(follower.encoding, fault),)))

    def heartbeat(self) -> None:
        """Queue a heartbeat for all clients."""
        now_ms = self._now_ms()
        newest = {kind: self._newest_ms.get(kind) for kind in RecordKind}
        newest |= {RecordKind.WINDOWS: self._windows.newest_end_ms, RecordKind.BOOKS: self._books.newest_ms}
        encoded = {encoding.name: messages.heartbeat(encoding, now_ms, newest) for encoding in ENCODINGS.values()}
        frames = {encoding.name: _frame(encoding, encoded[encoding.name]) for encoding in ENCODINGS.values()}
        for client, follower in self._each():
            name = follower.encoding.name
            if not client.write(frames[name]):
                follower.outbox.heartbeat(encoded[name])
                client.rouse()

    def windows(self, news: Mapping[str, Sequence[history.Entry]], moment: Moment) -> None:
        """Queue windows, by symbol, that the history holds already."""
        parts = []
        for symbol, entries in news.items():
            series = Series(RecordKind.WINDOWS, symbol)
            if series in self._audiences:
                parts.append(Part(series, [_item(series, entry) for entry in entries]))
        self._put(parts, Cursor({self._windows.topic.name: self._windows.positions}), moment)
        self._meet(news.keys())

    def begin(self, positions: Positions, newest_ms: Mapping[str, int]) -> None:
        """All that was there of candles, indicators and signals is in the store; what is new comes from these offsets on.

        Whoever follows them gets snapshots: there was nothing to tell before. `newest_ms` is the newest time of each topic.
        """
        self._tail.begin(positions)
        self._newest_ms = {kind: newest_ms[kind.topic] for kind in RecordKind if kind.topic in newest_ms}
        for client, follower in self._each():
            series = [each for each in follower.series if each.kind.has_intervals]
            if not series:
                continue
            self._show(client, follower, series)
        self._meet(self._store.candles.symbols())

    def void(self) -> None:
        """A topic of candles, indicators or signals is another one now: nobody can go on until the next `begin`."""
        self._tail.void()

    def closed(self, items: Sequence[Item], newest_ms: int) -> None:
        """Hold and queue live candles, indicators and signals that are in the store."""
        news: dict[Series, list[Item]] = {}
        for item in items:
            if self._tail.add(item):
                news.setdefault(item.series, []).append(item)
        for kind in {item.series.kind for item in items}:
            self._newest_ms[kind] = max(newest_ms, self._newest_ms.get(kind, 0))
        parts = [Part(series, found) for series, found in news.items() if series in self._audiences]
        topics = {part.series.kind.topic for part in parts}
        self._put(parts, Cursor({topic: self._tail.positions(topic) for topic in topics}), Moment())
        self._meet({series.symbol for series in news})

    def in_progress(self, values: Mapping[str, tuple[int, bytes]]) -> None:
        """Queue the newest candles in progress, symbol → time and record; one that can't be read is left out."""
        self._newest_ms[RecordKind.PROVISIONAL] = max(
            (self._newest_ms.get(RecordKind.PROVISIONAL, 0), *(time_ms for time_ms, _ in values.values()))
        )
        parts = []
        for symbol, (time_ms, value) in values.items():
            series = Series(RecordKind.PROVISIONAL, symbol)
            if series in self._audiences and is_of(symbol, value):
                parts.append(Part(series, [Item(series, time_ms, 0, 0, 0, 0, value)]))
        self._put(parts, Cursor({}), Moment())

    def books(self, news: Mapping[str, Book]) -> None:
        """Queue the newest order books, by symbol, that the store holds already."""
        parts = []
        for symbol, book in news.items():
            series = Series(RecordKind.BOOKS, symbol)
            if series in self._audiences:
                entry = book.features
                parts.append(Part(series, [Item(series, entry.end_ms, 0, entry.since_ms, entry.partition, entry.offset, book.value)]))
        self._put(parts, Cursor({}), Moment())
        self._meet(news.keys())

    def _subscribe(self, client: Client, follower: Follower, request: Subscribe) -> None:
        selection = request.selection
        # First, so that nobody makes the server compare thousands of symbols with hundreds of patterns.
        self._check("patterns", len(follower.patterns.keys() | set(selection.patterns)))
        symbols = self._expanded(selection)
        self._check("symbols", len(follower.symbols.keys() | set(symbols)))
        series = [each for symbol in symbols for each in selection.series(symbol)]
        for each in series:
            self._follow(follower, each, request.limit)
        self._audiences.place(client, follower)
        for pattern in selection.patterns:
            wanted = follower.patterns.setdefault(pattern, {})
            wanted |= {(each.kind, each.interval): request.limit for each in selection.series(pattern)}
        # What waits for them is part of the answer.
        follower.outbox.forget(set(series))
        answer = self._archivist.answer(series, request.cursor, request.limit)
        stale_after_ms = round(self._config.stale_after_s * 1000)
        head = messages.subscribed(follower.encoding, selection, symbols, now_ms=self._now_ms(), stale_after_ms=stale_after_ms)
        self._reply(client, follower, chain((head,), self._messages(follower, answer)))

    def _check(self, what: str, together: int) -> None:
        most = self._config.max_subscriptions
        if together > most:
            do = "name fewer, unsubscribe from some, or let server.max_subscriptions be raised"
            raise MessageError(f"at most {most} {what} a client", f"{together} with these", do)

    def _unsubscribe(self, client: Client, follower: Follower, selection: Selection) -> None:
        self._unfollow(follower, selection.among(follower.series))
        self._audiences.place(client, follower)
        for name in selection.names:
            wanted = follower.patterns.get(name, {})
            for each in selection.series(name):
                wanted.pop((each.kind, each.interval), None)
            if not wanted:
                follower.patterns.pop(name, None)

    def _messages(self, follower: Follower, answer: Answer) -> Iterator[bytes]:
        with_cursor = not follower.outbox.updates_wait
        return answer.messages(follower.encoding, self._store.names.names, with_cursor=with_cursor)

    def _reply(self, client: Client, follower: Follower, encoded: Iterator[bytes]) -> None:
        if not follower.outbox.reply(encoded):
            raise Closed(POLICY_VIOLATION, TOO_SLOW)
        client.rouse()

    def _expanded(self, selection: Selection) -> list[str]:
        """The symbols that the names mean now, in order of name."""
        found = set(selection.symbols)
        if selection.patterns:
            # Those met before too: one that is quiet now may come back.
            known = {*self._met, *self._windows.symbols(), *self._store.candles.symbols(), *self._books.times()}
            rules = rules_of(selection.patterns)
            found.update(symbol for symbol in known if rules.wanted(symbol))
        return sorted(found)

    def _meet(self, symbols: Iterable[str]) -> None:
        """Symbols whose data is held: whoever follows a pattern that means a new one gets its snapshots, and follows it from now on.

        Snapshots, since one who comes back to a server that has just started may hold records of the symbol already.
        """
        new = [symbol for symbol in symbols if symbol not in self._met]
        if not new:
            return
        if len(self._met) + len(new) > SYMBOLS_MOST:
            self._met.clear()
        self._met.update(new)
        meant: dict[str, list[str]] = {}
        for client, follower in self._each():
            followed = set(follower.series)
            for pattern, wanted in follower.patterns.items():
                if pattern not in meant:
                    rules = rules_of([pattern])
                    meant[pattern] = [symbol for symbol in new if rules.wanted(symbol)]
                for symbol in meant[pattern]:
                    self._follow_met(client, follower, symbol, wanted)
            met = [each for each in follower.series if each not in followed]
            if met:
                self._audiences.place(client, follower)
                self._show(client, follower, met)

    def _show(self, client: Client, follower: Follower, series: Sequence[Series]) -> None:
        """Queue snapshots that the client has not asked for."""
        follower.outbox.forget(set(series))
        answer = self._archivist.answer(series, {}, max(follower.series[each] for each in series))
        try:
            self._reply(client, follower, self._messages(follower, answer))
        except Closed as closed:
            client.ended = closed
            client.rouse()

    def _follow_met(self, client: Client, follower: Follower, symbol: str, wanted: Mapping[tuple[RecordKind, str], int]) -> None:
        most = self._config.max_subscriptions
        if symbol in follower.symbols or len(follower.symbols) < most:
            for (kind, interval), limit in wanted.items():
                self._follow(follower, Series(kind, symbol, interval), limit)
        elif not follower.told_full:
            follower.told_full = True
            fault = MessageError(f"at most {most} symbols a client", f"{symbol} and maybe more besides", "subscribe to a narrower pattern")
            follower.outbox.reply(iter((messages.error(follower.encoding, fault),)))
            client.rouse()

    def _follow(self, follower: Follower, series: Series, limit: int) -> None:
        if series not in follower.series:
            follower.symbols[series.symbol] += 1
            if follower.symbols[series.symbol] == 1:
                self._count(series.symbol, 1)
        follower.series[series] = limit

    def _unfollow(self, follower: Follower, series: Collection[Series]) -> None:
        follower.outbox.forget(set(series))
        for each in series:
            del follower.series[each]
            follower.symbols[each.symbol] -= 1
            if not follower.symbols[each.symbol]:
                del follower.symbols[each.symbol]
                self._count(each.symbol, -1)

    def _count(self, symbol: str, change: int) -> None:
        before = self._symbols[symbol]
        self._symbols[symbol] += change
        if not self._symbols[symbol]:
            del self._symbols[symbol]
        if not before or before + change == 0:
            self.changes += 1

    def _put(self, parts: Iterable[Part], cursor: Cursor, moment: Moment) -> None:
        written = 0
        for audience, tick in self._audiences.ticks(parts, cursor, moment):
            frame = _frame(audience.encoding, tick.message(audience.encoding))
            for client, follower in _each(audience.clients):
                if client.write(frame):
                    written += 1
                else:
                    follower.outbox.put(tick)
                    client.rouse()
            if written >= TOLD_AT_ONCE:
                self.on_written(moment, written)
                written = 0
        if written:
            self.on_written(moment, written)

    def _each(self) -> Iterator[tuple[Client, Follower]]:
        return _each(self._clients)


def _each(clients: Iterable[Client]) -> Iterator[tuple[Client, Follower]]:
    for client in clients:
        if client.follower is not None:
            yield client, client.follower


def _frame(encoding: Encoding, message: bytes) -> bytes:
    return text_frame(message) if encoding.is_text else binary_frame(message)


def _item(series: Series, entry: history.Entry) -> Item:
    return Item(series, entry.end_ms, entry.revision, entry.since_ms, entry.partition, entry.offset, entry.value)
