"""Whatever a feed does to its diffs and snapshots, a published book is that of the exchange after the same update, or none is published."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.decimals import parse
from klinestream.market.events import IdGapState, OrderBook
from klinestream.market.live_book import Change, LiveBook
from klinestream.market.order_book import Diff, Level, Side, Snapshot

BANDS = (100, 5000)
BIDS, ASKS = range(1, 51), range(51, 101)
FIRST_ID = 1000
ASKED = 30  # of at most fifty: some snapshots show all there is, some don't
UNIT = 10**8


@dataclass
class Exchange:
    """A book that changes, and all that was sent of it."""

    diffs: list[Diff] = field(default_factory=list)
    states: dict[int, tuple[dict[int, int], dict[int, int]]] = field(default_factory=dict)
    """Update id → price → quantity of both sides after it."""

    def snapshot(self, update_id: int) -> Snapshot:
        """What REST says after an update."""
        bids, asks = self.states[update_id]
        ranked = sorted(bids.items(), reverse=True)[:ASKED], sorted(asks.items())[:ASKED]
        return Snapshot(update_id, *ranked, ASKED)


def levels(prices: range) -> st.SearchStrategy[list[Level]]:
    level = st.tuples(st.sampled_from(prices).map(lambda price: price * UNIT), st.integers(0, 3).map(lambda lots: lots * UNIT))
    return st.lists(level, max_size=6, unique_by=lambda one: one[0])


changes = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 400), levels(BIDS), levels(ASKS)), min_size=2, max_size=15)


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    """Diffs of one to three updates each, some tenths of a second apart, and the books after them."""
    made = Exchange()
    full = {price * UNIT: UNIT for price in BIDS}, {price * UNIT: UNIT for price in ASKS}
    made.states[FIRST_ID - 1] = full
    next_id, time_ms, sides = FIRST_ID, 1_700_000_000_000, full
    for updates, later_ms, *changed in draw(changes):
        time_ms += later_ms
        diff = Diff(next_id, next_id + updates - 1, time_ms, *changed)
        sides = tuple({p: q for p, q in (side | dict(new)).items() if q} for side, new in zip(sides, changed, strict=True))  # type: ignore[assignment]  # two of them
        made.diffs.append(diff)
        made.states[diff.last_id] = sides
        next_id += updates
    return made


def as_wire(side: Sequence[Level]) -> list[Level]:
    return list(side)[:20]


def assert_true(exchange: Exchange, book: OrderBook) -> None:
    """Its levels, and the sums that are known, are those of the exchange after the same update."""
    bids, asks = exchange.states[book.last_update_id]
    ranked = sorted(bids.items(), reverse=True), sorted(asks.items())
    for ours, theirs in zip((book.bids, book.asks), ranked, strict=True):
        assert [(parse(price), parse(quantity)) for price, quantity in ours] == as_wire(theirs)
    if not bids or not asks:
        assert (book.mid, book.spread, book.microprice, book.imbalance, book.imbalance_20) == (None,) * 5
        return
    twice_mid = max(bids) + min(asks)
    for band in BANDS:
        low, high = twice_mid * (10_000 - band), twice_mid * (10_000 + band)
        within = sum(q for p, q in bids.items() if 20_000 * p >= low), sum(q for p, q in asks.items() if 20_000 * p <= high)
        known = knows(exchange, book, low, high)
        for said, true, sure in zip(book.depth[str(band)], within, known, strict=True):
            assert said == true / UNIT or (said is None and not sure)


def knows(exchange: Exchange, book: OrderBook, low: int, high: int) -> tuple[bool, bool]:
    """Whether the sums down to `low` and up to `high` have to be known: the snapshot reached as far, or showed all there is.

    Both in 20,000ths of a price.
    """
    begun = exchange.snapshot(book.since_id)
    bids, asks = begun.bids, begun.asks
    return len(bids) < ASKED or 20_000 * bids[-1][0] <= low, len(asks) < ASKED or 20_000 * asks[-1][0] >= high


class Watcher:
    """Takes what a live book says, and holds it to the law."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.published: list[OrderBook] = []
        self.in_gap = False

    def saw(self, change: Change) -> None:
        """Nothing is published in a gap; every book is true and newer than the one before."""
        for _, state, _ in change.gaps:
            assert (state is IdGapState.DETECTED) is not self.in_gap
            self.in_gap = state is IdGapState.DETECTED
        if self.in_gap:
            # What was due of the stretch before may go out with the diff that tells of the gap, but nothing from after it.
            assert all(not self.published or book.last_update_id > self.published[-1].last_update_id for book in change.books)
        for book in change.books:
            assert_true(self.exchange, book)
            assert not self.published or book.last_update_id > self.published[-1].last_update_id
            self.published.append(book)


@given(exchanges(), st.sampled_from([100, 1000]), st.data())
def test_loss_repeats_disorder_and_old_snapshots_never_give_a_wrong_book(exchange: Exchange, every_ms: int, data: st.DataObject) -> None:
    """Diffs lost, repeated and late, snapshots of any moment at any moment: books are true, in order, and none is of a gap."""
    live, watcher = LiveBook("BTCUSDT", every_ms, BANDS), Watcher(exchange)
    *most, last = exchange.diffs
    sent = [diff for diff in most for _ in range(data.draw(st.integers(0, 2)))]
    for place in range(len(sent) - 1):
        if data.draw(st.booleans()):
            sent[place], sent[place + 1] = sent[place + 1], sent[place]
    moments = sorted(update_id for update_id in exchange.states if update_id < last.first_id)
    for diff in sent:
        watcher.saw(live.take(diff))
        if live.wanting and data.draw(st.booleans()):
            watcher.saw(live.answer(exchange.snapshot(data.draw(st.sampled_from(moments)))))
        assert (live.gap is not None) is watcher.in_gap
    if live.wanting:
        watcher.saw(live.answer(exchange.snapshot(most[-1].last_id)))
    watcher.saw(live.take(last))
    if live.wanting:
        watcher.saw(live.answer(exchange.snapshot(most[-1].last_id)))
    assert not watcher.in_gap, "a snapshot, and a diff that goes on from it, end every gap"


@given(exchanges(), st.sampled_from([100, 1000]), st.data())
def test_without_loss_each_update_or_each_stretch_is_published(exchange: Exchange, every_ms: int, data: st.DataObject) -> None:
    """All diffs in order, and a snapshot of any moment among them: the books are those after each update, or the last of each second."""
    live, watcher = LiveBook("BTCUSDT", every_ms, BANDS), Watcher(exchange)
    place = data.draw(st.integers(0, len(exchange.diffs) - 1))
    for number, diff in enumerate(exchange.diffs):
        watcher.saw(live.take(diff))
        if number == place:
            before = exchange.diffs[place - 1].last_id if place else FIRST_ID - 1
            watcher.saw(live.answer(exchange.snapshot(data.draw(st.sampled_from([before, exchange.diffs[0].first_id - 1])))))
    shown = [book.last_update_id for book in watcher.published]
    if every_ms == 100:
        expected = [diff.last_id for diff in exchange.diffs]
    else:
        newest = {diff.time_ms // 1000: diff.last_id for diff in exchange.diffs}
        expected = [newest[second] for second in sorted(newest)][:-1]
    # A snapshot of a later moment leaves out what came before it, and a side that is known too little of is not shown.
    assert set(shown) <= set(expected)
    if place == 0:
        assert shown == [one for one in expected if one in shown]
        known = all(len(side) >= 20 for state in exchange.states.values() for side in state)
        assert not known or shown == expected
    assert live.gap is None


@settings(max_examples=40)  # nearly each has a gap between two stretches
@given(exchanges(), st.integers(0, 20))
def test_a_gap_hides_no_book_that_was_due(exchange: Exchange, lost: int) -> None:
    """The newest book of each stretch up to the gap is published, that of the last one too once an update of a later one has come."""
    every_ms = 200
    live, watcher = LiveBook("BTCUSDT", every_ms, BANDS), Watcher(exchange)
    lost = 1 + lost % (len(exchange.diffs) - 1)
    first, *sent = exchange.diffs[:lost] + exchange.diffs[lost + 1 :]
    watcher.saw(live.take(first))
    watcher.saw(live.answer(exchange.snapshot(FIRST_ID - 1)))
    for diff in sent:
        watcher.saw(live.take(diff))
    newest = {diff.time_ms // every_ms: diff.last_id for diff in exchange.diffs[:lost]}
    heard = {diff.time_ms // every_ms for diff in exchange.diffs[:lost] + exchange.diffs[lost + 1 : lost + 2]}
    expected = [newest[stretch] for stretch in sorted(newest) if stretch < max(heard)]
    known = all(len(side) >= 20 for state in exchange.states.values() for side in state)
    shown = [book.last_update_id for book in watcher.published]
    assert set(shown) <= set(expected)
    assert not known or shown == expected


@given(exchanges(), st.integers(0, 20))
def test_a_crossed_book_is_never_published(exchange: Exchange, place: int) -> None:
    """A bid above the asks, whatever its ids say: the book begins anew, and the ledger tells why."""
    live, watcher = LiveBook("BTCUSDT", 100, BANDS), Watcher(exchange)
    place = 1 + place % (len(exchange.diffs) - 1)
    wrong = exchange.diffs[place]
    told = []
    for number, diff in enumerate(exchange.diffs):
        crossed = Diff(diff.first_id, diff.last_id, diff.time_ms, [(100 * UNIT, UNIT)], [(100 * UNIT, UNIT)])
        change = live.take(crossed if number == place else diff)
        told += change.gaps
        watcher.saw(change)
        if number == 0:
            watcher.saw(live.answer(exchange.snapshot(FIRST_ID - 1)))
    assert told[0][1] is IdGapState.DETECTED
    assert told[0][2].startswith("crossed: best bid 100.00000000")
    assert all(book.last_update_id < wrong.first_id for book in watcher.published)


near = st.integers(9_900_000, 10_000_000)  # of some twenty buckets
sides = st.dictionaries(near, st.integers(1, 10**9), max_size=60)
new_levels = st.lists(st.lists(st.tuples(near, st.integers(0, 10**9)), max_size=20), max_size=5)


@given(st.sampled_from([1, -1]), sides, new_levels, st.integers(5, 100), st.lists(near, min_size=1, max_size=5))
def test_a_sum_up_to_a_price_is_that_of_its_levels(
    sign: int, first: dict[int, int], changed: list[list[Level]], asked: int, prices: list[int]
) -> None:
    """However close they stand, whatever came and went, and after the farthest were dropped; or it is None, beyond the reach only."""
    ranked = sorted(first.items(), reverse=sign == 1)[:asked]
    side, plain = Side(sign, ranked, asked), dict(ranked)
    for levels in changed:
        side.change(levels)
        plain |= dict(levels)
    known = dict(side.best(len(side)))
    assert all(plain[price] == quantity for price, quantity in known.items())
    for price in [*prices, *known]:
        said = side.within(price)
        if said is None:
            assert not side.whole
            assert all(sign * price < sign * level for level in known)
        else:
            assert said == sum(quantity for level, quantity in plain.items() if sign * level >= sign * price)
