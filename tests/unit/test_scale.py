"""The model of docs/scale.md: what it makes of costs that can be checked by hand, and that the page says what it says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import scale_page
from bench.scale_costs import Costs, Curve, Line, read, records_a_day
from bench.scale_model import BUSY, JOBS, LATENCY_MS, Market, kept, limits, needs, servers, viewers_of_a_server
from bench.scale_pods import MARKETS, pods
from klinestream.market.intervals import DAY_MS, HOUR_MS
from klinestream.market.topics import CANDLES, KLINES, PROVISIONAL_CANDLES, TOPICS, WINDOWS

PARTS = (
    "broker",
    "producer",
    "server",
    "archive",
    "repair",
    *(f"{job}: {what}" for job in JOBS for what in ("job manager", "task manager", "Python")),
)


def line(at_zero: float, each: float, most: int = 1000) -> Line:
    """What was measured at none and at the most, just on the line."""
    return Line(((0, at_zero), (most, at_zero + each * most)))


COSTS = Costs(
    cpu_ms={part: line(10, 0.1) for part in PARTS},
    memory_mb={part: line(100, 0.2) for part in PARTS},
    log_bytes={topic.name: Curve(((1, size),)) for topic, size in ((KLINES, 100), (WINDOWS, 50), (CANDLES, 200))},
    archive_bytes={KLINES.name: 40, WINDOWS.name: 10, CANDLES.name: 80},
    clients_cpu_ms=0.05,
    followed_cpu_ms=0.01,
    clients_kb=50,
    client_bytes=line(0, 700, 50),
    latency_ms=line(50, 0.45),
    latency_followed=20,
    store_kb=1000,
    state_kb=100,
    candles_burst_ms=0.25,
    klines_a_second=40_000,
    frames_a_second=30_000,
    frame_bytes=330,
    symbols_of_a_server=10_000,
)
MARKETS_DRAWN = st.builds(
    Market,
    symbols=st.integers(1, 3000),
    venues=st.integers(1, 20),
    viewers=st.integers(0, 200_000),
    followed=st.integers(1, 50),
    days=st.integers(0, 1000),
    replicas=st.integers(1, 5),
    standby=st.booleans(),
)


def test_the_page_says_what_the_results_give() -> None:
    """Every table of docs/scale.md is the one that the model makes of bench/results: `python -m bench.scale_page` fills them."""
    text = scale_page.PAGE.read_text()
    assert scale_page.filled(text, read()) == text


def test_the_page_shows_every_table() -> None:
    """No table is made that the page doesn't show."""
    text = scale_page.PAGE.read_text()
    assert not [name for name in scale_page.TABLES if f"<!-- scale: {name} -->" not in text]


def test_a_line_goes_through_what_lies_on_it() -> None:
    """Of points on a straight line the fit is that line, and nothing is left over; of others it is the least of squares."""
    exact = Line(((50, 7.0), (200, 10.0), (1400, 34.0)))
    assert (exact.at_zero, exact.each, exact.most) == (pytest.approx(6.0), pytest.approx(0.02), 1400)
    assert exact.residuals == pytest.approx((0, 0, 0), abs=1e-9)
    # By hand: the mean of places is 1, of values 2; each = (1*2 + 0 + 1*0 …) / 2.
    bent = Line(((0, 1.0), (1, 3.0), (2, 2.0)))
    assert (bent.at_zero, bent.each) == (pytest.approx(1.5), pytest.approx(0.5))
    assert bent.residuals == pytest.approx((-0.5, 1.0, -0.5))
    assert bent.place_of(3.5) == pytest.approx(4.0)


def test_a_bound_holds_as_far_as_nothing_measured_has_passed_it() -> None:
    """Not where the line says, and not beyond the last point; a later point within the bound doesn't make up for one before."""
    latency = Line(((500, 190.0), (2000, 490.0), (1000, 580.0), (4000, 810.0)))
    assert [latency.within(bound) for bound in (100, 190, 500, 600, 900)] == [0, 500, 500, 2000, 4000]


def test_no_server_gets_more_viewers_than_were_measured_in_time() -> None:
    """By the results themselves: at that many clients, and at all fewer, p99 was within the bound."""
    costs = read()
    bears = viewers_of_a_server(MARKETS["market"], costs)["latency"]
    assert 0 < bears <= costs.latency_ms.most
    assert all(p99 <= LATENCY_MS for clients, p99 in costs.latency_ms.points if clients <= bears)


def test_a_curve_goes_from_point_to_point() -> None:
    """Between two numbers of symbols that were measured it is in between; beyond them nothing is drawn on."""
    curve = Curve(((1400, 74.0), (50, 128.0)))
    assert [curve.at(symbols) for symbols in (1, 50, 725, 1400, 14_000)] == [128, 128, 101, 74, 74]


def test_records_of_a_day_follow_from_what_a_record_is() -> None:
    """A kline a second, two windows a second, candles of seven intervals: 1440 + 288 + 96 + 48 + 24 + 6 + 1."""
    found = {topic.name: records_a_day(topic.name) for topic in (KLINES, WINDOWS, PROVISIONAL_CANDLES, CANDLES)}
    assert list(found.values()) == [86_400, 172_800, 86_400, 1903]


def test_topics_are_bounded_by_time_or_by_bytes() -> None:
    """1,000 symbols' klines of 100 bytes are 8.64 GB a day: four partitions of 2 GiB hold 23.9 hours. Of ten symbols all are there."""
    many, few = (next(one for one in kept(symbols, COSTS) if one.topic is KLINES) for symbols in (1000, 10))
    assert many.gb_a_day == pytest.approx(8.64)
    assert many.mb_s == pytest.approx(0.1)
    assert many.hours == pytest.approx(4 * 2048 * 2**20 / 8.64e9 * 24)
    # All that may be there, and a segment of each partition that is dropped as a whole.
    assert many.gb == pytest.approx(4 * (2048 + 64) * 2**20 / 1e9)
    assert (few.hours, few.gb) == (24, pytest.approx(0.0864))
    assert many.archive_gb_a_day == pytest.approx(1000 * 86_400 * 40 / 1e9)


def test_a_server_bears_what_its_core_and_its_latency_allow() -> None:
    """600 ms of a core, less 110 for reading 1,000 symbols, at 0.25 ms a client; and 1,000 clients at which p99 was measured as 500 ms."""
    market = Market(symbols=1000, viewers=4500, followed=20)
    assert viewers_of_a_server(market, COSTS) == {"core": pytest.approx(490 / 0.25), "latency": pytest.approx(1000)}
    assert servers(market, COSTS) == 5 + 1
    assert servers(replace(market, venues=5), COSTS) == 2
    assert servers(replace(market, viewers=0), COSTS) == 2
    assert servers(replace(market, standby=False), COSTS) == 5
    assert servers(replace(market, viewers=0, standby=False), COSTS) == 1
    half = viewers_of_a_server(replace(market, followed=45), COSTS)
    assert half == {"core": pytest.approx(490 / 0.5), "latency": pytest.approx(500)}


def test_a_server_that_can_only_read_is_refused() -> None:
    """Where reading takes all of a server's share of a core, no number of servers helps."""
    with pytest.raises(ValueError, match="split the venue"):
        servers(Market(symbols=6000, viewers=1), COSTS)


def test_a_sizing_by_hand() -> None:
    """Ten venues of 1,000 symbols: what each part takes by the lines, and brokers by what their copies take."""
    market = Market(symbols=1000, venues=10, viewers=9000, followed=20, days=100, replicas=3)
    found = {one.part: one for one in needs(market, COSTS)}
    assert (found["producer"].pods, found["producer"].cores, found["producer"].memory_mb) == (20, pytest.approx(0.11), pytest.approx(300))
    # Task manager and workers, and 100 kB of state a symbol.
    assert found["candles: task manager"].memory_mb == pytest.approx(300 + 300 + 100)
    assert found["windows: task manager"].cores == pytest.approx(0.22)
    assert (found["server"].pods, found["server"].cores) == (20, pytest.approx((110 + 450 * 0.25) / 1000))
    assert found["server"].memory_mb == pytest.approx(300 + 1000 + 450 * 50 / 1000)
    assert found["server"].out_mb_s == pytest.approx(450 * 14_000 / 1e6)
    # 110 ms a venue and copy: 3.3 cores, which three brokers of four cores bear.
    assert (found["broker"].pods, found["broker"].cores) == (3, pytest.approx(1.1))
    assert found["broker"].in_mb_s == pytest.approx(10 * sum(one.mb_s for one in kept(1000, COSTS)))
    assert found["archive"].disk_gb == pytest.approx(100 * sum(one.archive_gb_a_day for one in kept(1000, COSTS)))
    assert {name for name, one in found.items() if one.beyond > 1} == {"broker"}


@given(MARKETS_DRAWN, st.integers(1, 500), st.integers(0, 5), st.integers(0, 100_000), st.integers(0, 100))
def test_more_of_anything_never_takes_less(market: Market, symbols: int, venues: int, viewers: int, days: int) -> None:
    """With more symbols, venues, viewers or days no part takes fewer cores, less memory, or less disk in all."""
    larger = replace(
        market,
        symbols=market.symbols + symbols,
        venues=market.venues + venues,
        viewers=(market.viewers + viewers) * 2,
        days=market.days + days,
    )
    for few, many in zip(needs(market, COSTS), needs(larger, COSTS), strict=True):
        spare = 1 + 1e-9
        assert few.all_cores <= many.all_cores * spare
        assert few.pods * few.disk_gb <= many.pods * many.disk_gb * spare


@given(MARKETS_DRAWN)
def test_no_topic_is_said_to_hold_more_than_it_may(market: Market) -> None:
    """Neither longer than its retention, nor more than its bytes and one segment of each partition."""
    for one in kept(market.symbols, COSTS):
        assert one.hours * HOUR_MS <= one.topic.retention_ms * (1 + 1e-9)
        assert one.gb * 1e9 <= one.topic.partitions * (one.topic.retention_bytes + 64 * 2**20) * (1 + 1e-9)
        assert one.gb * 1e9 <= one.gb_a_day * 1e9 * one.topic.retention_ms / DAY_MS * (1 + 1e-9) + one.topic.partitions * 64 * 2**20


@given(MARKETS_DRAWN)
def test_no_server_is_given_more_viewers_than_it_bears(market: Market) -> None:
    """Not even with one server of each venue away, where there is one to spare."""
    count = servers(market, COSTS)
    assert market.viewers / market.venues / max(1, count - market.standby) <= min(viewers_of_a_server(market, COSTS).values()) * (1 + 1e-9)


def test_limits_lie_where_the_lines_say() -> None:
    """The producer's core is full where 10 ms and 0.1 ms a symbol make 600; limits come the earliest first."""
    found = [one for one in limits(Market(symbols=1400), COSTS) if one.unit == "symbols"]
    assert [one.at for one in found] == sorted(one.at for one in found)
    core = next(one for one in found if one.part == "producer" and "core" in one.what)
    assert core.at == pytest.approx((BUSY * 1000 - 10) / 0.1)
    day = next(one for one in found if KLINES.name in one.what)
    assert day.at == pytest.approx(4 * 2048 * 2**20 / (86_400 * 100))


@pytest.mark.parametrize(
    ("name", "value"), [("symbols", 0), ("venues", 0), ("viewers", -1), ("followed", 0), ("days", -1), ("replicas", 0)]
)
def test_what_can_t_be_is_refused(name: str, value: int) -> None:
    """A market without symbols, with half a copy, or with fewer viewers than none."""
    with pytest.raises(ValueError, match=f"expected {name} of at least .*, got {value}"):
        Market(**({"symbols": 10} | {name: value}))


def test_every_measured_topic_is_one_of_ours() -> None:
    """What the results say of topics is said of topics that exist, and of all that grow with symbols."""
    costs, names = read(), {topic.name for topic in TOPICS}
    grow = {topic.name for topic in TOPICS if records_a_day(topic.name)}
    assert grow <= costs.log_bytes.keys() <= names
    assert grow <= costs.archive_bytes.keys() <= names


@pytest.mark.parametrize("name", MARKETS)
def test_pods_have_room_for_what_they_take(name: str) -> None:
    """Requests are above the mean, limits not below requests, and a JVM has room for all that its configuration lets it have."""
    needed = {need.part: need for need in needs(MARKETS[name], COSTS)}
    for pod in pods(MARKETS[name], COSTS):
        need = needed[pod.part]
        assert need.cores < pod.cpu_request
        assert need.memory_mb * 1e6 < pod.memory_request_mi * 2**20 < pod.memory_limit_mi * 2**20
        if pod.part.endswith("task manager"):
            assert pod.memory_request_mi >= 864
