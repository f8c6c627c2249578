"""What the server remembers of order books: the newest of each symbol, whole, and minutes of their features. Pure and bounded.

features  |··E-119 s··|··E-118 s··| … |··E··|     as windows are held: at most so many a symbol, none older than the span
newest                                  |E|       also of a symbol that is quiet: its age tells how quiet
"""

from collections.abc import Mapping, Sequence

from klinestream.market.topics import ORDER_BOOK
from server.books.records import Book
from server.history import History

SPAN_MS = 120_000
POINTS_MOST = 600
"""Of a symbol: a minute at an update each 100 ms."""
SYMBOLS_MOST = 10_000


class BookStore:
    """All of it runs in the event loop's thread, as the history of windows does."""

    def __init__(self, span_ms: int = SPAN_MS, *, points_most: int = POINTS_MOST, symbols_most: int = SYMBOLS_MOST) -> None:
        """Start empty; see `begin`."""
        self._features = History(span_ms, windows_most=points_most, symbols_most=symbols_most, topic=ORDER_BOOK)
        self._symbols_most = symbols_most
        self._newest: dict[str, Book] = {}

    def begin(self, starts: Mapping[int, int]) -> None:
        """Forget everything; reading starts anew from these offsets, partition → offset."""
        self._features.begin(starts)
        self._newest.clear()

    def add(self, book: Book) -> bool:
        """Hold a book; False if it isn't the newest of its symbol, or there is no room for it."""
        self._features.add(book.features)
        held = self._newest.get(book.symbol)
        if held is None and len(self._newest) >= self._symbols_most:
            return False
        if held is not None and held.place >= book.place:
            return False
        self._newest[book.symbol] = book
        return True

    @property
    def newest_ms(self) -> int | None:
        """The time of the newest book of any symbol."""
        return self._features.newest_end_ms

    def newest(self, symbol: str) -> Book | None:
        """The newest book of a symbol."""
        return self._newest.get(symbol)

    def times(self) -> dict[str, int]:
        """Symbol → the time of its newest book, in order of name."""
        return {symbol: self._newest[symbol].time_ms for symbol in sorted(self._newest)}

    def features(self, symbol: str, from_ms: int | None = None, to_ms: int | None = None) -> Sequence[bytes]:
        """The features held of a symbol in [from, to), as JSON, in order of time."""
        return self._features.between(symbol, from_ms, to_ms) or ()
