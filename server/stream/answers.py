"""What answers a subscribe: snapshots of what is held, or what was missed since a cursor. Nothing here is encoded ahead of its turn.

    subscribed ─► snapshot, snapshot, … ─► update, update, …      the last one has the cursor

So an answer may be large, and costs memory and time only a message at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from klinestream.market.kinds import RecordKind
from server.books.store import BookStore
from server.candles.rows import Rows
from server.candles.store import CandleStore, Table
from server.history import History
from server.rest import tables
from server.stream import messages
from server.stream.encoding import Encoding
from server.stream.messages import Cursor
from server.stream.series import Positions, Series
from server.stream.tail import Tail

ROWS_MOST = 20_000
"""Of all snapshots that answer one subscribe."""
PARTS_MOST = 32
"""Series in one update of an answer, so that no message grows without bound."""


@dataclass(frozen=True, slots=True)
class Held:
    """Records of one series as they are held: JSON, or rows of the store. Both never change."""

    series: Series
    values: Sequence[bytes] = ()
    rows: Rows | None = None
    more: bool = False


@dataclass(slots=True)
class Answer:
    """Series of which a snapshot is due, what was missed of others, and where the client is afterwards."""

    snapshots: list[Held] = field(default_factory=list)
    missed: list[tuple[Series, Sequence[bytes]]] = field(default_factory=list)
    positions: dict[str, Mapping[int, int]] = field(default_factory=dict)

    def messages(self, encoding: Encoding, names: Sequence[str], *, with_cursor: bool) -> Iterator[bytes]:
        """The messages, each made when it is asked for. `names` are those of the indicators' values."""
        cursor = Cursor(self.positions) if with_cursor else None
        pages = [self.missed[begin : begin + PARTS_MOST] for begin in range(0, len(self.missed), PARTS_MOST)]
        if not self.snapshots and not pages:
            pages = [[]]
        left = len(self.snapshots) + len(pages)
        for held in self.snapshots:
            left -= 1
            records = _records(encoding, held, names)
            yield messages.snapshot(encoding, held.series, records, None if left else cursor, more=held.more)
        for page in pages:
            left -= 1
            parts = [messages.part(encoding, series, values) for series, values in page]
            yield messages.update(encoding, parts, None if left else cursor)


class Archivist:
    """Looks up what is held of series."""

    def __init__(self, history: History, store: CandleStore, tail: Tail, books: BookStore) -> None:
        """From these; `tail` says from where clients can go on."""
        self._books = books
        self._history = history
        self._store = store
        self._tail = tail

    def answer(self, series: Sequence[Series], cursor: Positions, limit: int) -> Answer:
        """What a client with this cursor lacks. Series whose topics are still being read are left out until they are."""
        found = Answer()
        most = min(limit, max(1, ROWS_MOST // max(1, len(series))))
        by_kind: dict[RecordKind, list[Series]] = {}
        for each in series:
            by_kind.setdefault(each.kind, []).append(each)
        for kind, of_kind in by_kind.items():
            if kind is RecordKind.WINDOWS:
                self._windows(found, of_kind, cursor.get(self._history.topic.name), most)
            elif kind is RecordKind.BOOKS:
                self._newest_books(found, of_kind)
            elif kind is RecordKind.PROVISIONAL:
                self._in_progress(found, of_kind)
            elif self._tail.ready:
                self._closed(found, kind, of_kind, cursor.get(kind.topic), most)
        return found

    def _windows(self, found: Answer, series: Sequence[Series], cursor: Mapping[int, int] | None, most: int) -> None:
        for each in series:
            missed = None if cursor is None else self._history.missed(each.symbol, cursor)
            if missed is None:
                values = self._history.snapshot(each.symbol).values
                found.snapshots.append(Held(each, values[-most:], more=len(values) > most))
            elif missed:
                found.missed.append((each, missed))
        found.positions[self._history.topic.name] = self._history.positions

    def _newest_books(self, found: Answer, series: Sequence[Series]) -> None:
        for each in series:
            book = self._books.newest(each.symbol)
            found.snapshots.append(Held(each, () if book is None else (book.value,)))

    def _in_progress(self, found: Answer, series: Sequence[Series]) -> None:
        for each in series:
            value = self._store.provisional(each.symbol)
            fits = value is not None and is_of(each.symbol, value)
            found.snapshots.append(Held(each, (value,) if fits and value is not None else ()))

    def _closed(self, found: Answer, kind: RecordKind, series: Sequence[Series], cursor: Mapping[int, int] | None, most: int) -> None:
        missed = None if cursor is None else self._tail.since(kind.topic, cursor)
        for each in series:
            if missed is None:
                rows = self._table(kind).rows(each.symbol, each.interval)
                found.snapshots.append(Held(each, rows=rows[-most:], more=len(rows) > most))
            elif items := missed.get(each):
                found.missed.append((each, [item.value for item in items]))
        found.positions[kind.topic] = self._tail.positions(kind.topic)

    def _table(self, kind: RecordKind) -> Table:
        return {
            RecordKind.CANDLES: self._store.candles,
            RecordKind.INDICATORS: self._store.indicators,
            RecordKind.SIGNALS: self._store.signals,
        }[kind]


def is_of(symbol: str, value: bytes) -> bool:
    """Whether a record of the candles in progress, which nobody has looked into yet, is JSON and speaks of this symbol."""
    try:
        record = orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return isinstance(record, dict) and record.get("s") == symbol


def _records(encoding: Encoding, held: Held, names: Sequence[str]) -> list[bytes]:
    if held.rows is None:
        return [encoding.record(value) for value in held.values]
    kind, symbol, interval = held.series
    if kind is RecordKind.CANDLES:
        table = tables.candles(symbol, interval, held.rows)
    elif kind is RecordKind.INDICATORS:
        table = tables.indicators(symbol, interval, held.rows, names)
    else:
        table = tables.signals(symbol, [(interval, row) for row in held.rows])
    columns = table.columns
    records = table.records() if table.records else [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [encoding.value(record) for record in records]
