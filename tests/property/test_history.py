"""The law of the candles' history: once all needs are served, no candle is missing, whatever happened before."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.events import SECOND_MS
from klinestream.market.history import Row, Span, aligned, common, merged, newest_closed, within, without
from klinestream.market.intervals import INTERVALS, MINUTE_MS
from producer.history_plan import CORRECTED_SETTLE_MS, Ask, Plan

SYMBOL = "BTCUSDT"
CHOSEN = ("1m", "5m")
HISTORY = 6
REFRESH_MS = 40 * MINUTE_MS
PATIENCE_MS = 60 * MINUTE_MS
START_MS = 1_700_000_040_000  # a whole minute, and no whole five minutes
SERVED_MOST = 200


class World:
    """A topic of klines, a ledger, a topic of candles, an exchange that has all, and a producer that comes and goes."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self.now_ms = START_MS
        self.klines: list[Span] = []
        self.ledger: list[Span] = []
        self.repairs: list[Span] = []
        self.stored: dict[str, list[Span]] = {interval: [] for interval in CHOSEN}
        self.wrong: dict[str, list[Span]] = {interval: [] for interval in CHOSEN}
        """Candles with a kline that was corrected since they were stored."""
        self.unsettled: list[Span] = []
        self.settled_ms = 0
        self.plan: Plan | None = None
        self.tail_ms: int | None = None
        """End of what is published, where the feed must account for what follows it."""

    def start(self, early: bool) -> None:
        """A producer follows the symbol; it finds the symbol's first kline, or only its newest one."""
        if self.plan is None:
            self.plan = Plan(CHOSEN, HISTORY, REFRESH_MS, PATIENCE_MS)
            self.plan.load({(SYMBOL, interval): spans for interval, spans in self.stored.items()})
            self.plan.lose(SYMBOL, [*self.ledger, *self.repairs])
        self.plan.follow([SYMBOL])
        self.search(early)

    def search(self, early: bool) -> None:
        """Look for klines in the topic."""
        assert self.plan is not None
        if self.plan.beginless():
            found = {SYMBOL: self.klines[0][0] if early else self.klines[-1][1] - SECOND_MS} if self.klines else {}
            self.plan.begin([SYMBOL], found)

    def leave(self) -> None:
        """The symbol is followed no longer; its newest kline stays in the topic."""
        if self.plan:
            self.plan.follow([])

    def crash(self) -> None:
        """The producer is gone, with all it knew but what stands in topics; that a stored candle is to be fetched again doesn't."""
        self.plan = None
        self.unsettled = []  # settling makes one request of many corrections; REST gave them, so its candles hold them
        self.wrong = {interval: without(self.wrong[interval], self.stored[interval]) for interval in CHOSEN}

    def feed(self, seconds: int, refilled: bool) -> None:
        """Time passes; a producer publishes the klines, and what was missed before them is refilled or lost."""
        from_ms = self.now_ms
        self.now_ms += seconds * SECOND_MS
        if not self._follows():
            return
        if self.tail_ms is not None and self.tail_ms < from_ms:
            if refilled:
                from_ms = self.tail_ms
            else:
                self.lose((self.tail_ms, from_ms))
        self.klines = merged([*self.klines, (from_ms, self.now_ms)])
        self.tail_ms = self.now_ms

    def gap(self, seconds: int) -> None:
        """Time passes, and the klines of it are given up."""
        from_ms = self.now_ms if self.tail_ms is None else self.tail_ms
        self.now_ms += seconds * SECOND_MS
        if self._follows() and self.tail_ms is not None:
            self.lose((from_ms, self.now_ms))
            self.tail_ms = self.now_ms

    def lose(self, span: Span) -> None:
        """The feed went on without these."""
        assert self.plan is not None
        self.ledger.append(span)
        self.plan.lose(SYMBOL, [span])

    def correct(self, ago_s: int) -> None:
        """A kline was published again."""
        at_ms = self.now_ms - ago_s * SECOND_MS
        if self.plan is None or not within(self.klines, (at_ms, at_ms + SECOND_MS)):
            return
        span = at_ms, at_ms + SECOND_MS
        self.repairs.append(span)
        self.unsettled.append(span)
        self.plan.correct(SYMBOL, [span], self.now_ms)
        self.settled_ms = self.now_ms + CORRECTED_SETTLE_MS
        for interval in CHOSEN:
            self.wrong[interval] = merged([*self.wrong[interval], aligned(span, INTERVALS[interval])])

    def fetch(self, outcome: str) -> bool:
        """One request, and what comes of it; False if none is needed."""
        if self.plan is None:
            return False
        self.plan.look(frozenset(), self.now_ms)
        if self.now_ms >= self.settled_ms:
            self.unsettled = []
        ask = self.plan.next(self.now_ms)
        if ask is None:
            return False
        if outcome == "refused":
            self.plan.put_back(ask, self.now_ms, 1000)
        elif outcome == "unusable":
            self.plan.retry(ask, self.now_ms)
        elif outcome == "lost":
            self.crash()
        else:
            self.answer(ask, late=outcome == "late")
        return True

    def answer(self, ask: Ask, *, late: bool) -> None:
        """The exchange's answer, which may lack the newest candle."""
        assert self.plan is not None
        length_ms = INTERVALS[ask.interval]
        rows: dict[int, Row] = {at: (at,) for at in range(*ask.span, length_ms)}
        assert ask.span[1] <= self.now_ms
        assert len(rows) <= HISTORY
        if late:
            del rows[max(rows)]
        taken = self.plan.take(ask, rows, self.now_ms)
        got = merged((row[0], row[0] + length_ms) for record in taken.records for row in record.rows)
        needless = without(common(got, self.stored[ask.interval]), self.wrong[ask.interval])
        assert not needless, "what is stored and right is asked for no more"
        self.stored[ask.interval] = merged([*self.stored[ask.interval], *got])
        # Before corrections settle, the answer may have been made from the klines as they were.
        doubtful = merged(aligned(span, length_ms) for span in self.unsettled)
        self.wrong[ask.interval] = without(self.wrong[ask.interval], without(got, doubtful))

    def serve(self) -> None:
        """All needs of now."""
        for _ in range(SERVED_MOST):
            if not self.fetch("answered"):
                return
        raise AssertionError("expected an end of asking")

    def wanted(self, interval: str) -> Span:
        """The newest closed candles."""
        return newest_closed(INTERVALS[interval], HISTORY, self.now_ms)

    def missing(self, interval: str) -> list[Span]:
        """Wanted candles that neither topic holds whole."""
        length_ms = INTERVALS[interval]
        wanted = self.wanted(interval)
        covered = [
            (at, at + length_ms) for at in range(*wanted, length_ms) if within(self.klines, (at, at + length_ms)) == [(at, at + length_ms)]
        ]
        return without([wanted], merged([*self.stored[interval], *covered]))

    def _follows(self) -> bool:
        return self.plan is not None and self.plan.follows(SYMBOL)


SECONDS = st.integers(1, 900)
FLAGS = st.booleans()
STEPS: st.SearchStrategy[Callable[[World], object]] = st.one_of(
    st.builds(lambda early: lambda world: world.start(early), FLAGS),
    st.just(World.leave),
    st.just(World.crash),
    st.builds(lambda seconds, refilled: lambda world: world.feed(seconds, refilled), SECONDS, FLAGS),
    st.builds(lambda seconds: lambda world: world.gap(seconds), st.integers(1, 200)),
    st.builds(lambda ago_s: lambda world: world.correct(ago_s), SECONDS),
    st.builds(lambda outcome: lambda world: world.fetch(outcome), st.sampled_from(["answered", "late", "refused", "unusable", "lost"])),
    st.builds(lambda early: lambda world: world.plan and world.search(early), FLAGS),
    st.just(World.serve),
)


@given(st.lists(STEPS, max_size=40), FLAGS, FLAGS)
@settings(max_examples=400)
def test_no_candle_is_missing(steps: list[Callable[[World], object]], early: bool, refilled: bool) -> None:
    """After any story of starts, stops, gaps, corrections and answers, stored candles and whole runs of klines hold every wanted candle."""
    world = World()
    for step in steps:
        step(world)
    world.start(early)
    world.feed(1, refilled)
    for _ in range(3):
        world.search(early)
        world.serve()
        # Whatever was put off is due then: back-off ends, corrections settle, the candle in progress at the start closes.
        world.feed(400, refilled=True)
    world.serve()
    none: dict[str, list[Span]] = {interval: [] for interval in CHOSEN}
    assert {interval: world.missing(interval) for interval in CHOSEN} == none
    assert {interval: within(world.wrong[interval], world.wanted(interval)) for interval in CHOSEN} == none
