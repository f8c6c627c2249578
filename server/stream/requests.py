"""What a client of version 2 sends: always JSON text, whatever encoding it gets. Pure.

    {"op":"subscribe","kinds":["windows","candles"],"symbols":["BTCUSDT","*BTC"],"intervals":["1m"],"cursor":{…},"limit":100}
    {"op":"unsubscribe","kinds":["candles"],"symbols":["*"]}

`kinds` is what tells it from version 1.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from klinestream.market.codec import is_symbol_or_pattern
from klinestream.market.intervals import INTERVALS
from klinestream.market.kinds import KIND_OF_TOPIC, RecordKind
from klinestream.market.selection import Rules, Statement, is_pattern
from server.protocol import SYMBOL_MOST_CHARS, MessageError, cursor_of, shown
from server.stream.series import Positions, Series

DEFAULT_LIMIT, LIMIT_MOST = 100, 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """Kinds × names of symbols × intervals. A name may be a pattern with `*` and `?`."""

    kinds: tuple[RecordKind, ...]
    names: tuple[str, ...]
    intervals: tuple[str, ...]

    def series(self, symbol: str) -> Iterator[Series]:
        """The series of one symbol that are meant.

        >>> [series.interval for series in Selection((RecordKind.WINDOWS, RecordKind.CANDLES), (), ("1m", "1h")).series("BTCUSDT")]
        ['', '1m', '1h']
        """
        for kind in self.kinds:
            for interval in self.intervals if kind.has_intervals else ("",):
                yield Series(kind, symbol, interval)

    def among(self, series: Iterable[Series]) -> list[Series]:
        """Those of some series that are meant."""
        rules = rules_of(self.names)
        of_kind = (each for each in series if each.kind in self.kinds and (not each.interval or each.interval in self.intervals))
        return [each for each in of_kind if rules.wanted(each.symbol)]

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names that are no patterns."""
        return tuple(name for name in self.names if not is_pattern(name))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names that are patterns."""
        return tuple(name for name in self.names if is_pattern(name))


def rules_of(names: Iterable[str]) -> Rules:
    """Which symbols the names mean; made once for many symbols, since patterns are compiled for it."""
    return Rules([Statement(name, True) for name in names])


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The client wants these series: from a cursor on where that can be, else the newest `limit` records of each."""

    selection: Selection
    cursor: Positions
    limit: int


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The client wants these series no more."""

    selection: Selection


def read(message: dict[str, Any]) -> Subscribe | Unsubscribe:
    """A client's message; raises MessageError."""
    match message.get("op"):
        case "subscribe":
            selection = _selection(message)
            if not selection.intervals and any(kind.has_intervals for kind in selection.kinds):
                expected = "intervals, for candles, indicators and signals"
                raise MessageError(expected, "none", f"name some of {', '.join(INTERVALS)}")
            return Subscribe(selection, _cursor(message.get("cursor")), _limit(message.get("limit")))
        case "unsubscribe":
            selection = _selection(message)
            return Unsubscribe(Selection(selection.kinds, selection.names, selection.intervals or tuple(INTERVALS)))
        case op:
            raise MessageError('op "subscribe" or "unsubscribe"', shown(op), "see docs/websocket.md")


def _selection(message: dict[str, Any]) -> Selection:
    kinds = _list(message, "kinds", tuple(RecordKind))
    intervals = _list(message, "intervals", tuple(INTERVALS)) if message.get("intervals") is not None else ()
    names = message.get("symbols")
    if not isinstance(names, list) or not names:
        raise MessageError("symbols, a list of symbols or patterns", shown(names), 'send a list, for example ["BTCUSDT"]')
    for name in names:
        if not isinstance(name, str) or len(name) > SYMBOL_MOST_CHARS or not is_symbol_or_pattern(name):
            expected = f"symbols or patterns with * and ?, in upper case, of at most {SYMBOL_MOST_CHARS} characters"
            raise MessageError(expected, shown(name), "mend this name; /api/v1/symbols lists those that have data")
    return Selection(tuple(map(RecordKind, kinds)), tuple(dict.fromkeys(names)), intervals)


def _list(message: dict[str, Any], name: str, known: Sequence[str]) -> tuple[str, ...]:
    values = message.get(name)
    if not isinstance(values, list) or not values or not all(isinstance(value, str) and value in known for value in values):
        raise MessageError(f"{name}, a list of some of {', '.join(known)}", shown(values), "name at least one, and only these")
    return tuple(dict.fromkeys(values))


def _cursor(cursor: Any) -> Positions:
    if cursor is None:
        return {}
    if not isinstance(cursor, dict) or not cursor.keys() <= KIND_OF_TOPIC.keys():
        raise MessageError("a cursor, topic → partition → next offset, or none", shown(cursor), "send back what the server has sent")
    return {topic: cursor_of(partitions) or {} for topic, partitions in cursor.items()}


def _limit(limit: Any) -> int:
    if limit is None:
        return DEFAULT_LIMIT
    if type(limit) is int and 1 <= limit <= LIMIT_MOST:
        return limit
    raise MessageError(f"a limit from 1 to {LIMIT_MOST}, or none", shown(limit), "send another number")
