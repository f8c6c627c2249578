"""Whatever a feed does to its klines, what the machine publishes is the true series, or the hole is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.continuity import HELD_MOST, Continuity, Publish, Span, Tail, Verdict
from klinestream.market.events import SECOND_MS, Origin

FIRST_ID = 1000


@dataclass(frozen=True)
class K:
    """A closed kline."""

    open_time_ms: int
    close: str
    trades: int
    first_trade_id: int
    last_trade_id_within: int


def series(counts: Sequence[int]) -> list[K]:
    """The true klines of seconds with so many trades each; the close is that of the newest trade."""
    found = []
    next_id = FIRST_ID
    for second, trades in enumerate(counts):
        ids = (next_id, next_id + trades - 1) if trades else (-1, -1)
        next_id += trades
        found.append(K(second * SECOND_MS, f"after {next_id}", trades, *ids))
    return found


def rest(truth: Sequence[K], span: Span) -> list[K]:
    """What REST answers: no trade ids."""
    return [replace(k, first_trade_id=-1, last_trade_id_within=-1) for k in truth if span[0] <= k.open_time_ms < span[1]]


def tail_of(record: Publish[K]) -> Tail:
    """A published record as the topic's newest."""
    return Tail(record.open_time_ms, record.close, record.last_trade_id)


def check(published: Sequence[Publish[K]], truth: Sequence[K], holes: Sequence[Span] = ()) -> None:
    """Each second once, in order, true; none is missing but those of the holes."""
    opened = [record.open_time_ms for record in published]
    missing = {t for start, end in holes for t in range(start, end, SECOND_MS)}
    if published:
        assert opened == [t for t in range(opened[0], opened[-1] + SECOND_MS, SECOND_MS) if t not in missing]
    for record in published:
        true = truth[record.open_time_ms // SECOND_MS]
        assert record.close == true.close
        assert record.first_trade_id in (None, true.first_trade_id)
        assert record.last_trade_id_within in (None, true.last_trade_id_within)
        newest = max((k.last_trade_id_within for k in truth[: true.open_time_ms // SECOND_MS + 1] if k.trades), default=FIRST_ID - 1)
        assert record.last_trade_id in (None, newest)
        if record.kline is None:
            assert true.trades == 0


counts = st.lists(st.integers(0, 3), min_size=2, max_size=30)
traded = counts.map(lambda found: [1, *found])
"""A first second with a trade: then every id is known."""


@st.composite
def deliveries(draw: st.DrawFn, seconds: st.SearchStrategy[list[int]] = traded) -> tuple[list[K], list[K]]:
    """A true series, and what comes of it: with gaps, repeats and in any order. Its first second comes first."""
    truth = series(draw(seconds))
    return truth, [truth[0], *draw(st.lists(st.sampled_from(truth), max_size=60))]


@given(deliveries(), st.data())
def test_published_is_the_true_series(given_: tuple[list[K], list[K]], data: st.DataObject) -> None:
    """In whatever order klines come and REST answers, each second is published once, in order, with its true ids."""
    truth, coming = given_
    machine: Continuity[K] = Continuity()
    published: list[Publish[K]] = []
    for kline in coming:
        published += machine.live(kline)[1]
        if machine.gaps and data.draw(st.booleans()):
            published += machine.refill(rest(truth, data.draw(st.sampled_from(machine.gaps))))
    for span in machine.gaps:
        published += machine.refill(rest(truth, span))
    check(published, truth)
    assert published[-1].open_time_ms == max(kline.open_time_ms for kline in coming)
    assert all(record.last_trade_id is not None for record in published)
    assert not machine.holding
    assert machine.gaps == machine.doubtful == []
    assert machine.refuted == machine.id_breaks == 0


@given(deliveries(counts))
def test_ids_that_nobody_knows_are_null(given_: tuple[list[K], list[K]]) -> None:
    """A series that begins with quiet seconds has no newest trade until one comes; what is told is true even so."""
    truth, coming = given_
    machine: Continuity[K] = Continuity()
    published = []
    for kline in coming:
        published += machine.live(kline)[1]
    for span in machine.gaps:
        published += machine.refill(rest(truth, span))
    check(published, truth)
    assert published[-1].open_time_ms == max(kline.open_time_ms for kline in coming)


@given(deliveries(), st.data())
def test_what_is_given_up_is_known(given_: tuple[list[K], list[K]], data: st.DataObject) -> None:
    """Seconds that were given up are named, to the second; all others are published, in order."""
    truth, coming = given_
    machine: Continuity[K] = Continuity()
    published: list[Publish[K]] = []
    holes: list[Span] = []
    for kline in coming:
        published += machine.live(kline)[1]
        if machine.holding and data.draw(st.booleans()):
            known = machine.gaps
            spans, more = machine.give_up()
            for span in spans:
                assert (span.from_ms, span.to_ms) in known  # others may turn out to have been quiet
                assert span.trades in (None, sum(kline.trades for kline in rest(truth, (span.from_ms, span.to_ms))))
                holes.append((span.from_ms, span.to_ms))
            published += more
            assert not machine.holding
    spans, more = machine.give_up()
    check([*published, *more], truth, [*holes, *((span.from_ms, span.to_ms) for span in spans)])


@given(deliveries(), st.data())
def test_producers_side_by_side_and_restarts(given_: tuple[list[K], list[K]], data: st.DataObject) -> None:
    """Two producers, each with its own gaps, each killed at any time and started again from the topic: readers see the true series."""
    truth, coming = given_
    topic: list[Publish[K]] = []
    producers = [Continuity[K](), Continuity[K]()]
    for kline in coming:
        for place in (0, 1):
            act = data.draw(st.sampled_from(("hear", "hear", "hear", "miss", "restart", "look")))
            machine = producers[place]
            newest = tail_of(max(topic, key=lambda record: record.open_time_ms)) if topic else None
            if machine.newest_ms is None and newest is not None:
                machine = producers[place] = Continuity(newest)  # as a producer starts
            if act == "hear" and (topic or kline is truth[0]):
                topic += machine.live(kline)[1]
            elif act == "restart":
                producers[place] = Continuity(newest)
            elif act == "look" and newest is not None:
                topic += machine.seen(newest)
    for machine in producers:
        for span in machine.gaps:
            topic += machine.refill(rest(truth, span))
    seen: dict[int, Publish[K]] = {}
    for record in topic:
        # A second's first record comes when all before it are there: so says the topic's order.
        assert record.open_time_ms in seen or record.open_time_ms == max(seen, default=record.open_time_ms - SECOND_MS) + SECOND_MS
        seen.setdefault(record.open_time_ms, record)
    check(list(seen.values()), truth)


@given(deliveries(), st.data())
def test_false_answers_are_refuted_or_doubted(given_: tuple[list[K], list[K]], data: st.DataObject) -> None:
    """An answer of REST with another number of trades than were missing is not published, or once a trade shows it, named doubtful."""
    truth, coming = given_
    machine: Continuity[K] = Continuity()
    published: list[Publish[K]] = []
    for kline in coming:
        published += machine.live(kline)[1]
        if machine.gaps and data.draw(st.booleans()):
            answer = rest(truth, machine.gaps[0])
            published += machine.refill([replace(k, trades=k.trades + data.draw(st.integers(0, 1))) for k in answer])
    named = [*machine.doubtful, *([machine.unproved] if machine.unproved else [])]
    for record in published:
        if record.origin is Origin.REST and record.kline is not None:
            true = truth[record.open_time_ms // SECOND_MS].trades == record.kline.trades
            assert true or any(start <= record.open_time_ms < end for start, end in named)


def test_quiet_seconds_are_derived_without_rest() -> None:
    """Where the next trade follows the newest one, the seconds between were quiet: they are published without asking."""
    truth = series([2, 0, 0, 0, 1])
    machine: Continuity[K] = Continuity()
    machine.live(truth[0])
    verdict, published = machine.live(truth[4])
    assert verdict is Verdict.PUBLISH
    assert [record.origin for record in published] == [Origin.DERIVED] * 3 + [Origin.LIVE]
    check(published, truth)


def test_kline_before_the_run_is_stale() -> None:
    """A kline older than all that was published here is stale, one within is a duplicate."""
    truth = series([1] * 6)
    machine: Continuity[K] = Continuity()
    for kline in truth[3:]:
        machine.live(kline)
    assert machine.live(truth[4]) == (Verdict.DUPLICATE, [])
    assert machine.live(truth[2]) == (Verdict.STALE, [])


def test_trades_missing_without_a_gap_are_counted() -> None:
    """A kline whose first trade doesn't follow, though no second is missing, is published and counted."""
    first, second, third = series([1, 1, 1])
    machine: Continuity[K] = Continuity()
    for kline in (first, replace(second, first_trade_id=5000, last_trade_id_within=5000), third):
        assert machine.live(kline)[0] is Verdict.PUBLISH
    assert machine.id_breaks == 2


def test_what_is_held_is_bounded() -> None:
    """After so many held klines the machine says that it is full."""
    machine: Continuity[K] = Continuity()
    truth = series([1] * (HELD_MOST + 2))
    machine.live(truth[0])
    for kline in truth[2:]:
        assert not machine.full
        machine.live(kline)
    assert machine.full
