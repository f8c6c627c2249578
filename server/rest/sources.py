"""What the REST routes answer from."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from klinestream.market.errors import BrokerError
from klinestream.market.ledger import Ledger
from klinestream.market.topics import CANDLES
from server.books.feed import BookFeed
from server.books.store import BookStore
from server.candles.feed import CandleFeed
from server.candles.store import CandleStore
from server.clients import Hub
from server.feed import Feed
from server.rest.errors import RestError
from server.rest.limits import Encodings

LEDGER_KEPT_S = 5.0
LEDGER_KEPT_TIMES = 10.0
"""A ledger that takes a second to read is kept for ten: reading it takes a tenth of the time at most."""
LEDGER_WAIT_S = 10.0
RETRY_S = 5


class Gaps:
    """The ledger of gaps, read when it is asked for and kept for some seconds; one reading at a time, however many ask."""

    def __init__(self, read: Callable[[], Ledger], clock_s: Callable[[], float] = time.monotonic) -> None:
        """`read` is called in a thread."""
        self._read = read
        self._clock_s = clock_s
        self._task: asyncio.Task[Ledger] | None = None
        self._until_s = 0.0

    async def ledger(self) -> Ledger:
        """The ledger as it was some seconds ago at most. Raises RestError if the broker gives none in time."""
        if self._task is None or (self._task.done() and self._clock_s() >= self._until_s):
            self._task = asyncio.create_task(self._fetch())
        try:
            async with asyncio.timeout(LEDGER_WAIT_S):
                return await asyncio.shield(self._task)
        except TimeoutError:
            came = f"no answer within {LEDGER_WAIT_S:g} s"
        except BrokerError as error:
            came = str(error)
        raise RestError(503, "the ledger of gaps", came, "try again; /api/v1/status tells more", retry_after_s=RETRY_S)

    async def _fetch(self) -> Ledger:
        began_s = self._clock_s()
        try:
            return await asyncio.to_thread(self._read)
        finally:
            # A fault is kept too: who asks again at once gets the same.
            ended_s = self._clock_s()
            self._until_s = ended_s + max(LEDGER_KEPT_S, LEDGER_KEPT_TIMES * (ended_s - began_s))


@dataclass(frozen=True, slots=True)
class Sources:
    """Windows, candles, order books, gaps, and who encodes."""

    hub: Hub
    feed: Feed
    store: CandleStore
    candle_feed: CandleFeed
    books: BookStore
    book_feed: BookFeed
    gaps: Gaps
    now_ms: Callable[[], int]
    encodings: Encodings

    def candles_read(self) -> None:
        """Raise RestError until the store has all that was in the topics."""
        if not self.candle_feed.complete:
            raise RestError(503, f"{CANDLES.name} read to its end", self.progress(), "try again", retry_after_s=RETRY_S)

    def no_windows(self, symbol: str) -> RestError:
        """What to say of a symbol without windows: there may be some soon."""
        state = self.feed.state
        if state.caught_up:
            return RestError(404, "a symbol that has windows", symbol, "see /api/v1/symbols")
        return RestError(
            503, f"{self.hub.history.topic.name} read to its end", state.fault or "the beginning of it", "try again", retry_after_s=RETRY_S
        )

    def progress(self) -> str:
        """How far the store is, for a person."""
        fault = self.candle_feed.state.fault
        read = sum(reached.read for reached in self.candle_feed.reached.values())
        return f"{read} records so far" if fault is None else fault

    def known(self, symbol: str) -> None:
        """Raise RestError if there are no candles of a symbol."""
        if not self.store.candles.knows(symbol):
            raise RestError(404, "a symbol that has candles", symbol, "see /api/v1/symbols")
