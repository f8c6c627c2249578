"""What is needed of the exchange's candles, and which of its rows are used."""

import itertools
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest

from klinestream.market.codec import encode_event
from klinestream.market.errors import ExchangeError, RecordError
from klinestream.market.events import CandleHistory, HistoryReason
from klinestream.market.history import SETTLE_MS, Need, Row, Series, Span, checked_row, stock
from klinestream.market.intervals import MINUTE_MS
from klinestream.runtime.history_index import HistoryIndex
from klinestream.runtime.rest import CANDLES_MOST, KLINES_WEIGHT, Rest
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.weights import Weights
from producer.history_plan import CORRECTED_SETTLE_MS, Ask, Plan
from tests.canned_rest import Answer, CannedRest, canned_rest
from tests.klines import START_MS

SYMBOL = "BTCUSDT"
HISTORY = 5
REFRESH_MS = 60 * MINUTE_MS
MINUTES_MS = START_MS - START_MS % MINUTE_MS
PATIENCE_MS = 10 * MINUTE_MS


@pytest.fixture
def exchange() -> Iterator[CannedRest]:
    with canned_rest() as served:
        yield served


def minute(number: int) -> int:
    return MINUTES_MS + number * MINUTE_MS


def minutes(first: int, end: int) -> Span:
    return minute(first), minute(end)


def closed(number: int) -> int:
    """When that minute's candle is first asked for."""
    return minute(number + 1) + SETTLE_MS


def row(number: int = 0, **changes: Any) -> list[Any]:
    """That minute's candle as REST gives it."""
    cells = {
        "t": minute(number), "o": "1.50000000", "h": "2.00000000", "l": "1.00000000", "c": "1.75000000", "v": "10.00000000",
        "T": minute(number + 1) - 1, "q": "15.00000000", "n": 3, "V": "4.00000000", "Q": "6.00000000", "B": "0",
    }  # fmt: skip  # as the exchange groups them
    return list((cells | changes).values())


def rows(*numbers: int) -> dict[int, Row]:
    return {minute(number): tuple(row(number)[:11]) for number in numbers}


def series(*stored: Span) -> Series:
    made = Series(SYMBOL, "1m", HISTORY, REFRESH_MS)
    made.store(stored)
    return made


def spans(needs: list[Need]) -> list[tuple[str, Span]]:
    return [(need.reason.value, need.span) for need in needs]


def test_a_sound_row_is_taken_as_it_came() -> None:
    """A row's eleven columns go on as the exchange wrote them."""
    assert list(checked_row(row(), MINUTE_MS)) == row()[:11]


@pytest.mark.parametrize(
    "changes",
    [
        {"t": minute(0) + 1000}, {"T": minute(1)}, {"t": str(minute(0))}, {"n": True}, {"n": -1}, {"o": 1.5}, {"v": None}, {"V": "-1.0"},
        {"c": "2.10000000"}, {"l": "1.60000000"}, {"l": "0.00000000"}, {"h": "99999999999.00000000"}, {"q": "1e3"}, {"t": 9 * 10**15},
    ],
)  # fmt: skip  # as they belong together
def test_a_row_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    """Wrong types, times off the grid, and prices outside of low and high are errors."""
    with pytest.raises(RecordError):
        checked_row(row(**changes), MINUTE_MS)


@pytest.mark.parametrize("told", [None, {}, row()[:11], []])
def test_what_is_no_row_is_refused(told: Any) -> None:
    """A row is a list of twelve columns or more."""
    with pytest.raises(RecordError, match="columns"):
        checked_row(told, MINUTE_MS)


def test_all_wanted_candles_are_needed_at_first() -> None:
    """With nothing stored the newest closed candles are needed; the one in progress is when it has closed and settled, not before."""
    found = series()
    assert spans(found.needs(None, closed(9))) == [("start", minutes(5, 10))]
    found.store([minutes(5, 10)])
    since_ms = minute(10) + 20_000
    assert found.needs(since_ms, closed(10) - 1) == []
    assert found.look_again_ms(since_ms, closed(10) - 1) == closed(10)
    assert spans(found.needs(since_ms, closed(10))) == [("start", minutes(10, 11))]
    found.store([minutes(10, 11)])
    assert found.needs(since_ms, closed(13)) == []
    assert found.look_again_ms(since_ms, closed(13)) == minute(12) + REFRESH_MS


def test_what_klines_hold_is_fetched_once_the_newest_stored_is_old() -> None:
    """Candles since the newest stored one are needed when that is older than the refresh beyond its length, and no earlier."""
    found, since_ms = series(minutes(0, 5)), minute(0)
    old_ms = minute(6) + REFRESH_MS
    assert found.needs(since_ms, old_ms - 1) == []
    [need] = found.needs(since_ms, old_ms)
    assert need == Need(minutes(60, 65), HistoryReason.START)


def test_lost_and_corrected_klines_lead_to_their_candles() -> None:
    """Candles over a lost span are needed unless stored; those over corrected klines even so."""
    found, since_ms = series(minutes(0, 5)), minute(0)
    found.lose([(minute(4) + 1000, minute(5) + 1000), (minute(7) + 59_000, minute(8))])
    found.correct([(minute(3), minute(3) + 1000), (minute(7), minute(7) + 1000)])
    found.history = 8
    assert spans(found.needs(since_ms, closed(7))) == [("correction", minutes(3, 4)), ("gap", minutes(5, 6)), ("gap", minutes(7, 8))]


def test_a_correction_survives_an_answer_without_it() -> None:
    """A corrected candle is needed until an answer holds it: not sent, and not there yet, it stays needed."""
    found = series(minutes(0, 5))
    found.correct([(minute(4), minute(4) + 1000)])
    for outcome in (lambda needs: (found.begin(needs), found.fail()), lambda needs: (found.begin(needs), found.take(needs, {}, 0))):
        needs = found.needs(minute(0), closed(4))
        assert spans(needs) == [("correction", minutes(4, 5))]
        outcome(needs)
    needs = found.needs(minute(0), closed(4))
    found.begin(needs)
    found.correct([(minute(4) + 2000, minute(4) + 3000)])
    assert found.take(needs, rows(4), 0).records[0].reason is HistoryReason.CORRECTION
    assert spans(found.needs(minute(0), closed(4))) == [("correction", minutes(4, 5))], "it was corrected while the answer was on its way"


def test_an_answer_becomes_records_without_holes() -> None:
    """Each run of rows is a record; what is missing is asked for again if it is new, and never again if it is old."""
    found = series(minutes(0, 1))
    needs = found.needs(None, closed(5))
    taken = found.take(needs, rows(1, 2, 4), minute(4))
    assert [[cells[0] for cells in record.rows] for record in taken.records] == [[minute(1), minute(2)], [minute(4)]]
    assert taken.waiting == [minutes(5, 6)]
    assert spans(found.needs(None, closed(5))) == [("start", minutes(5, 6))]


def test_before_its_listing_a_symbol_has_no_candles() -> None:
    """What lies before the first row of a symbol without stored candles is never asked for again, however new."""
    found = series()
    taken = found.take(found.needs(None, closed(5)), rows(4, 5), 0)
    assert taken.waiting == []
    assert found.needs(None, closed(5)) == []


def ready(plan: Plan, now_ms: int, watched: frozenset[str] = frozenset()) -> Iterator[Ask]:
    plan.look(watched, now_ms)
    while (ask := plan.next(now_ms)) is not None:
        yield ask


def plan_of(*symbols: str, **stored: list[Span]) -> Plan:
    made = Plan(("5m", "1m"), HISTORY, REFRESH_MS, PATIENCE_MS)
    made.load({(symbol, "1m"): held for symbol, held in stored.items()})
    made.follow(symbols)
    made.begin(symbols, dict.fromkeys(symbols, minute(0)))
    return made


def test_watched_symbols_first_then_symbol_after_symbol() -> None:
    """A watched symbol's candles come first in all intervals, then the others', short intervals before long ones; old ones last."""
    made = plan_of("A", "B", "C", A=[minutes(-90, -80)])
    asked = [(ask.symbol, ask.interval) for ask in ready(made, closed(0), frozenset({"C"}))]
    assert asked == [("C", "1m"), ("C", "5m"), ("A", "5m"), ("B", "1m"), ("B", "5m"), ("A", "1m")]


def test_who_becomes_watched_moves_up() -> None:
    """What waits already is put in order again when somebody looks at another symbol."""
    made = plan_of("A", "B")
    made.look(frozenset(), closed(0))
    assert [ask.symbol for ask in ready(made, closed(0), frozenset({"B"}))] == ["B", "B", "A", "A"]


def test_an_answer_that_lacks_the_newest_is_asked_for_again_ever_later() -> None:
    """The waits double up to a minute; past the patience what is missing counts as absent, and the asking ends."""
    made = Plan(["1m"], 30, REFRESH_MS, PATIENCE_MS)
    made.follow([SYMBOL])
    made.begin([SYMBOL], {SYMBOL: minute(3)})
    begin_ms, asked_ms = closed(2), []
    for now_ms in range(begin_ms, begin_ms + 2 * PATIENCE_MS, 1000):
        for ask in ready(made, now_ms):
            asked_ms.append(now_ms)
            made.take(ask, {}, now_ms)
    waits = [later - earlier for earlier, later in itertools.pairwise(asked_ms)]
    assert waits[:6] == [1000, 2000, 4000, 8000, 16_000, 32_000]
    assert max(waits) == MINUTE_MS
    assert begin_ms + PATIENCE_MS - MINUTE_MS <= asked_ms[-1] <= begin_ms + PATIENCE_MS + MINUTE_MS
    assert made.waiting() == 0


def test_of_few_short_candles_the_asking_ends_too() -> None:
    """Where the wanted candles move on before the patience ends, half of their span is the patience."""
    made = Plan(["1m"], HISTORY, 1000 * REFRESH_MS, PATIENCE_MS)
    made.follow([SYMBOL])
    made.begin([SYMBOL], {SYMBOL: minute(3)})
    asked = [ask for now_ms in range(closed(2), closed(60), 1000) for ask in ready(made, now_ms) if not made.take(ask, {}, now_ms).records]
    assert 2 < len(asked) < 12


def test_many_corrections_of_a_candle_are_one_request() -> None:
    """Corrections wait until none has come for five seconds, then each candle over them is asked for once."""
    made = plan_of(SYMBOL, BTCUSDT=[minutes(0, 5)])
    assert [ask.interval for ask in ready(made, closed(4))] == ["5m"]
    for second in range(30):
        made.correct(SYMBOL, [(minute(3) + 1000 * second, minute(3) + 1000 * (second + 1))], closed(4) + 100 * second)
        assert not list(ready(made, closed(4) + 100 * second))
    settled_ms = closed(4) + 2900 + CORRECTED_SETTLE_MS
    assert not list(ready(made, settled_ms - 1))
    assert [(ask.interval, ask.span) for ask in ready(made, settled_ms)] == [("1m", minutes(3, 4))]


def test_a_correction_survives_a_request_that_is_not_sent() -> None:
    """Put back or answered with what can't be used, a corrected candle is asked for again."""
    made = plan_of(SYMBOL, BTCUSDT=[minutes(0, 5)])
    assert [ask.interval for ask in ready(made, closed(4))] == ["5m"]
    made.correct(SYMBOL, [(minute(3), minute(3) + 1000)], closed(4))
    now_ms = closed(4) + CORRECTED_SETTLE_MS
    [first] = ready(made, now_ms)
    made.put_back(first, now_ms)
    [second] = ready(made, now_ms)
    made.retry(second, now_ms)
    assert not list(ready(made, now_ms + 999))
    assert list(ready(made, now_ms + 1000)) == [first]


def test_how_long_the_oldest_need_waits() -> None:
    """Needs are counted, with their age, until they are served; a symbol followed no longer has none."""
    made = plan_of("A", "B")
    asks = list(ready(made, closed(4)))
    assert (made.waiting(), made.oldest_ms(closed(4) + 7000)) == (4, 7000)
    made.follow(["A"])
    assert made.waiting() == 2
    for ask in asks:
        length_ms = {"1m": 1, "5m": 5}[ask.interval] * MINUTE_MS
        made.take(ask, {at: (at,) for at in range(*ask.span, length_ms)}, closed(4))
    assert not list(ready(made, closed(4)))
    assert (made.waiting(), made.oldest_ms(closed(4))) == (0, 0)


def test_what_is_stored_beside_what_is_wanted() -> None:
    """Holes, what is missing before the first, and what has closed since the last are told apart."""
    found = stock(SYMBOL, "1m", [minutes(3, 5), minutes(6, 8)], 8, closed(9))
    assert (found.candles, found.from_ms, found.to_ms, found.holes) == (4, minute(3), minute(8), [minutes(5, 6)])
    assert (found.missing_in_holes, found.missing_before, found.closed_since) == (1, 1, 2)
    none = stock(SYMBOL, "1m", [], 8, closed(9))
    assert (none.candles, none.missing_before, none.from_ms) == (0, 8, None)


def test_the_index_reads_what_the_producer_writes_and_what_others_do() -> None:
    """Spans are the same whether a record is looked through quickly or, with a hole or in another style, in full."""
    whole = encode_event(CandleHistory(SYMBOL, "1m", HistoryReason.START, tuple(rows(0, 1, 2).values())))
    holed = encode_event(CandleHistory(SYMBOL, "1m", HistoryReason.GAP, tuple(rows(5, 7).values())))
    index = HistoryIndex()
    for value, last in ((whole, 2), (holed, 7), (holed.replace(b'{"s"', b'{ "s"'), 7)):
        index.read(value, minute(last + 1) - 1)
    index.merge()
    assert index.spans == {(SYMBOL, "1m"): [minutes(0, 3), minutes(5, 6), minutes(7, 8)]}
    for value in (None, b"{}", whole.replace(b'"1m"', b'"2m"'), whole.replace(b'"1.75000000"', b'"9.00000000"', 1) + b" "):
        with pytest.raises(RecordError):
            index.read(value, minute(9))
    assert index.unusable == 4


def test_rest_gives_closed_candles_alone(exchange: CannedRest) -> None:
    """Rows come as the exchange gives them, but for the one in progress by the exchange's own clock; the weight is counted."""
    weights = Weights(6000)
    exchange.answer = lambda _: Answer([row(0), row(1)], headers={"Date": formatdate((minute(2) - 1) / 1000, usegmt=True)})
    with Rest(ExchangeConfig(rest_url=exchange.url), weights) as rest:
        assert rest.candles(SYMBOL, "1m", *minutes(0, 2)) == [row(0)]
    assert weights.used() == KLINES_WEIGHT
    assert exchange.asked[0]["interval"] == "1m"
    assert (exchange.asked[0]["startTime"], exchange.asked[0]["endTime"]) == (str(minute(0)), str(minute(2) - 1))


def test_candles_that_cannot_be_asked_for(exchange: CannedRest) -> None:
    """A request is for one to a thousand candles; an answer that is no list is an error."""
    exchange.answer = lambda _: Answer({})
    with Rest(ExchangeConfig(rest_url=exchange.url)) as rest:
        for span in (minutes(0, 0), minutes(0, CANDLES_MOST + 1)):
            with pytest.raises(ValueError, match="candles"):
                rest.candles(SYMBOL, "1m", *span)
        with pytest.raises(ExchangeError, match="list of candles"):
            rest.candles(SYMBOL, "1m", *minutes(0, 1))
