import functools
import itertools
from collections import defaultdict
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.events import SECOND_MS
from klinestream.standin import payloads
from klinestream.standin.feed import CATCH_UP_MS, Feed, put_together
from klinestream.standin.frames import Frame, Unit
from klinestream.standin.intervals import INTERVALS
from klinestream.standin.market import DepthDiff
from klinestream.standin.seeded.market import SeededMarket
from klinestream.standin.streams import Kind, Stream, parse

MIDNIGHT_MS = 1_723_161_600_000  # 2024-08-09 00:00 UTC, a Friday
START_MS = MIDNIGHT_MS - 7_000


@functools.cache
def market() -> SeededMarket:
    return SeededMarket(1, 6)


def streams(*names: str) -> list[Stream]:
    found = [parse(name) for name in names]
    return [stream for stream in found if stream is not None]


def run(names: list[str], steps_ms: list[int], start_ms: int = START_MS) -> list[Frame]:
    """All frames of a feed that steps to each of these times."""
    feed = Feed(market(), start_ms, stopwatch=lambda: 0.0)
    feed.want(streams(*names))
    sent = list[Frame]()
    for now_ms in steps_ms:
        feed.prepare()
        for batch in feed.step(now_ms):
            sent += batch
    return sent


def content(frame: Frame) -> Any:
    """Stream and payload without the time of sending, which depends on when the steps were."""
    data = orjson.loads(frame.payload(Unit.MILLISECOND))
    for event in data if isinstance(data, list) else [data]:
        event.pop("E", None)
    return frame.stream.name, data


ALL = [
    f"{symbol.lower()}@{kind}"
    for symbol in ("BTCUSDT", "ETHUSDT")
    for kind in ("kline_1s", "kline_1m", "trade", "aggTrade", "bookTicker", "depth", "depth@100ms", "depth5", "depth20@100ms", "miniTicker")
]


@settings(deadline=None, max_examples=10)  # each example asks the market for seconds of everything
@given(st.lists(st.integers(START_MS + 1, START_MS + 2500), max_size=20))
def test_steps_do_not_matter(between_ms: list[int]) -> None:
    """However time is cut into steps, each stream carries the same frames in the same order."""
    end_ms = START_MS + 2500
    by_stream = []
    for steps_ms in ([end_ms], sorted({*between_ms, end_ms})):
        sent = defaultdict(list)
        for frame in run(ALL, steps_ms):
            name, data = content(frame)
            sent[name].append(data)
        by_stream.append(sent)
    assert by_stream[0] == by_stream[1]
    assert set(by_stream[0]) == set(ALL)


@pytest.mark.parametrize("interval", [name for name in INTERVALS if name != "1s"])
def test_running_candles_are_the_markets(interval: str) -> None:
    """A candle put together from seconds equals the market's own at each push, and its end is told once."""
    steps_ms = list(range(START_MS + 500, MIDNIGHT_MS + 5000, 500))
    frames = [orjson.loads(f.payload(Unit.MILLISECOND)) for f in run([f"btcusdt@kline_{interval}"], steps_ms, START_MS + 1)]
    assert [frame["E"] for frame in frames] == list(range(frames[0]["E"], MIDNIGHT_MS + 5000, 2000))
    for frame in frames:
        opened = INTERVALS[interval].open_of(frame["E"] - 1)
        (candle,) = market().candles("BTCUSDT", INTERVALS[interval], opened, opened + 1, frame["E"])
        assert orjson.dumps(frame["k"]) == payloads.kline_body("BTCUSDT", interval, candle, Unit.MILLISECOND)
    ended = INTERVALS[interval].open_of(MIDNIGHT_MS) == MIDNIGHT_MS
    closed = [frame["k"]["T"] for frame in frames if frame["k"]["x"]]
    assert (MIDNIGHT_MS - 1 in closed) == ended
    assert len(closed) == len(set(closed))


def test_the_end_of_a_candle_is_told_however_late_it_was_subscribed() -> None:
    """A candle subscribed right before its end is closed at its end, also without any time to get warm."""
    feed = Feed(market(), MIDNIGHT_MS - 10)
    feed.want(streams("btcusdt@kline_1d", "ethusdt@kline_1w"))
    klines = [content(frame)[1]["k"] for batch in feed.step(MIDNIGHT_MS + 5) for frame in batch]
    assert [(kline["i"], kline["T"]) for kline in klines if kline["x"]] == [("1d", MIDNIGHT_MS - 1)]


def test_all_closed_seconds_come_first() -> None:
    """At a second's edge the burst of closed seconds is the first batch."""
    feed = Feed(market(), START_MS + 1)
    feed.want(streams(*ALL))
    first = next(iter(feed.step(START_MS + 1000)))
    assert [frame.stream.name for frame in first] == ["btcusdt@kline_1s", "ethusdt@kline_1s"]


def test_nothing_leaves_before_its_time() -> None:
    """Preparing sends nothing, and a second's kline leaves at its end, not before."""
    feed = Feed(market(), START_MS)
    feed.want(streams("btcusdt@kline_1s"))
    feed.prepare()
    assert [frame for batch in feed.step(START_MS + 999) for frame in batch] == []
    (frame,) = [frame for batch in feed.step(START_MS + 1000) for frame in batch]
    assert content(frame)[1]["k"]["t"] == START_MS


def test_a_long_sleep_is_a_gap() -> None:
    """After a sleep only the newest seconds are sent, and candles in progress are right again."""
    late_ms = START_MS + 3_600_000
    frames = [content(f)[1]["k"] for f in run(["btcusdt@kline_1s", "btcusdt@kline_1h"], [START_MS + 1000, late_ms, late_ms + 2000])]
    seconds = [kline["t"] for kline in frames if kline["i"] == "1s"]
    assert seconds[0] == START_MS
    assert seconds[1:] == list(range(late_ms - CATCH_UP_MS, late_ms + 2000, SECOND_MS))
    newest = [kline for kline in frames if kline["i"] == "1h"][-1]
    opened, pushed_ms = INTERVALS["1h"].open_of(late_ms), late_ms + 1000  # the whole second that two seconds divide
    (candle,) = market().candles("BTCUSDT", INTERVALS["1h"], opened, opened + 1, pushed_ms)
    assert (newest["t"], newest["n"]) == (opened, candle.trades)


def test_slow_looks_keep_clear_of_the_edge() -> None:
    """Where asking for trades takes long, it is done less often and not right before a second's edge, and loses none."""
    ticks = itertools.count(0, 0.1)
    feed = Feed(market(), START_MS, stopwatch=lambda: next(ticks))
    feed.want(streams("btcusdt@trade"))
    sent = {now_ms - START_MS: [f for batch in feed.step(now_ms) for f in batch] for now_ms in range(START_MS + 20, START_MS + 3001, 20)}
    looks = [after_ms for after_ms, frames in sent.items() if frames]
    assert len(looks) <= 8
    assert all(after_ms % 1000 < 900 for after_ms in looks)
    ids = [content(frame)[1]["t"] for frames in sent.values() for frame in frames]
    assert ids == list(range(market().trade_id_at("BTCUSDT", START_MS), ids[-1] + 1))
    assert ids[-1] >= market().trade_id_at("BTCUSDT", START_MS + 2000) - 1


def test_unlisted_symbols_are_silent() -> None:
    """Streams of symbols that the market doesn't list carry nothing."""
    names = ["nobody@kline_1s", "nobody@kline_1m", "nobody@trade", "nobody@depth", "nobody@miniTicker", "nobody@bookTicker"]
    assert run(names, [START_MS + 5000]) == []


def test_tickers_of_all_hold_what_changed() -> None:
    """The first array holds all symbols with trades, each later one those with a new trade."""
    sent = [content(frame)[1] for frame in run(["!miniTicker@arr"], [START_MS + n * 1000 for n in range(1, 6)])]
    everybody = [ticker.symbol for ticker in market().mini_tickers(START_MS + 1000)]
    assert [ticker["s"] for ticker in sent[0]] == everybody
    for edge_ms, tickers in zip(range(START_MS + 2000, START_MS + 6000, 1000), sent[1:], strict=True):
        traded = [s for s in everybody if market().trade_id_at(s, edge_ms) > market().trade_id_at(s, edge_ms - 1000)]
        assert [ticker["s"] for ticker in tickers] == traded


levels = st.dictionaries(st.integers(1, 5), st.integers(0, 3), max_size=4).map(lambda side: tuple(side.items()))


@given(st.lists(st.tuples(levels, levels), min_size=1, max_size=6), st.integers(0, 6))
def test_diffs_put_together(changes: list[tuple[Any, Any]], applied: int) -> None:
    """From any book in between on, the diff put together leads to the same book as its parts."""
    diffs = [DepthDiff(n * 10 + 1, n * 10 + 10, bids, asks, START_MS + n) for n, (bids, asks) in enumerate(changes)]
    whole = put_together(diffs)
    assert (whole.first_update_id, whole.last_update_id, whole.event_ms) == (1, len(diffs) * 10, START_MS + len(diffs) - 1)
    books = [dict[int, int](), dict[int, int]()]
    for diff in diffs[:applied]:
        books[0].update(diff.bids)
        books[1].update(diff.asks)
    for book, side, parts in ((books[0], whole.bids, [d.bids for d in diffs]), (books[1], whole.asks, [d.asks for d in diffs])):
        by_parts = dict(book)
        for part in parts[applied:]:
            by_parts.update(part)
        at_once = book | dict(side)
        assert {price: size for price, size in at_once.items() if size} == {price: size for price, size in by_parts.items() if size}


@pytest.mark.parametrize(
    ("name", "kind", "push_ms"),
    [
        ("btcusdt@kline_1s", Kind.KLINE, 1000),
        ("btcusdt@kline_1M", Kind.KLINE, 2000),
        ("btcusdt@depth", Kind.DEPTH, 1000),
        ("btcusdt@depth@100ms", Kind.DEPTH, 100),
        ("btcusdt@depth20", Kind.PARTIAL_DEPTH, 1000),
        ("btcusdt@depth5@100ms", Kind.PARTIAL_DEPTH, 100),
        ("1000satsusdt@aggTrade", Kind.AGG_TRADE, 0),
        ("!miniTicker@arr", Kind.MINI_TICKERS, 1000),
        ("!miniTicker@arr@3000ms", Kind.MINI_TICKERS, 3000),
    ],
)
def test_stream_names(name: str, kind: Kind, push_ms: int) -> None:
    """A stream's name says its kind and how often it is pushed."""
    stream = parse(name)
    assert stream is not None
    assert (stream.name, stream.kind, stream.push_ms) == (name, kind, push_ms)


@pytest.mark.parametrize(
    "name",
    ["", "0", "BTCUSDT@kline_1s", "btcusdt", "btcusdt@kline_2s", "btcusdt@kline_1S", "btcusdt@depth7", "btcusdt@depth@10ms", "!ticker@arr"],
)
def test_unknown_stream_names(name: str) -> None:
    """A name that the exchange doesn't have is no stream."""
    assert parse(name) is None
