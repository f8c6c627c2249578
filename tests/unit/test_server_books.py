"""Order books in the server: what is let in, what is held, who gets it, and what REST says of them."""

import asyncio
import json
from dataclasses import fields, replace
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.codec import encode_event
from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.events import OrderBook, TradeWindow, Window, wire_fields
from klinestream.market.kinds import RecordKind
from klinestream.market.topics import ORDER_BOOK, TRADE_WINDOWS
from klinestream.runtime.kafka import Reader, Record
from klinestream.runtime.server_sections import ServerConfig
from server.app import create_app
from server.books.records import LEVELS, VALUE_MOST_BYTES, Book, book_from
from server.books.store import BookStore
from server.candles.store import CandleStore
from server.client import Client
from server.clients import Hub
from server.history import History
from server.metrics import Metrics
from server.outbox import Moment
from server.records import AHEAD_MOST_MS, entry_from
from server.rest.tables import features
from server.stream.encoding import JSON
from server.stream.messages import Cursor, Part
from server.stream.outbox import StreamOutbox, Tick
from server.stream.series import Item, Series
from server.stream.stream import Stream
from tests.books import book_at, book_record, trade_window_at

NOW_MS = 1_790_000_000_000
SERIES = Series(RecordKind.BOOKS, "BTCUSDT")
WINDOWS = Series(RecordKind.WINDOWS, "BTCUSDT")


def record(value: bytes | None) -> Record:
    return Record(ORDER_BOOK.name, b"BTCUSDT", value, NOW_MS, partition=2, offset=7)


def book(time_ms: int, symbol: str = "BTCUSDT", **further: Any) -> Book:
    return book_from(book_record(replace(book_at(symbol, time_ms), **further)), NOW_MS)


class TestRecords:
    """What comes from the topic."""

    def test_a_book_is_held_as_it_came_and_its_features_apart(self) -> None:
        """The very bytes, and all but the levels."""
        value = encode_event(book_at("BTCUSDT", NOW_MS))
        found = book_from(record(value), NOW_MS)
        assert found.value is value
        told = orjson.loads(value)
        assert orjson.loads(found.features.value) == {name: each for name, each in told.items() if name not in LEVELS}
        assert (found.symbol, found.time_ms, found.update_id) == ("BTCUSDT", NOW_MS, told["u"])
        assert (found.features.since_ms, found.features.partition, found.features.offset) == (told["since"], 2, 7)

    @pytest.mark.parametrize("name", list(wire_fields(OrderBook)))
    @pytest.mark.parametrize("bad", ["missing", {"x": 1}, [[1, 2]], "", -1, True])
    def test_a_missing_or_wrong_field_is_refused_by_name(self, name: str, bad: Any) -> None:
        """Each field of a book is checked."""
        told = orjson.loads(encode_event(book_at("BTCUSDT", NOW_MS)))
        kind = wire_fields(OrderBook)[name].metadata["kind"]
        if (bad == "" and name in ("source", "proof")) or (bad == -1 and type(bad) is int and kind.name == "NUMBER"):
            return
        if bad == "missing":
            del told[name]
        else:
            told[name] = bad
        with pytest.raises(RecordError, match=f"^{name}: "):
            book_from(record(orjson.dumps(told)), NOW_MS)

    @pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"null", b"x" * (VALUE_MOST_BYTES + 1)])
    def test_what_is_no_book_at_all_is_refused(self, value: bytes | None) -> None:
        """Tombstones, garbage and giants are RecordErrors."""
        with pytest.raises(RecordError):
            book_from(record(value), NOW_MS)

    def test_a_book_from_the_future_is_refused(self) -> None:
        """It would push all others out of what is held."""
        with pytest.raises(RecordError, match="E: lies in the future"):
            book_from(record(encode_event(book_at("BTCUSDT", NOW_MS + AHEAD_MOST_MS + 1))), NOW_MS)

    def test_an_empty_side_is_a_book(self) -> None:
        """Without asks there is no spread, and that is known."""
        nothing = dict.fromkeys(("spread", "mid", "microprice", "imbalance", "imbalance_20"))
        found = book(NOW_MS, asks=(), **nothing)
        assert orjson.loads(found.value)["asks"] == []


class TestStore:
    """What is remembered."""

    @given(st.permutations(range(6)))
    def test_the_newest_counts_whatever_the_order(self, order: list[int]) -> None:
        """Read in any order: the newest book, and all features by time."""
        store = BookStore()
        store.begin({0: 0})
        for number in order:
            store.add(book(NOW_MS - 1000 * number))
        newest = store.newest("BTCUSDT")
        assert newest is not None
        assert newest.time_ms == NOW_MS
        assert [orjson.loads(value)["E"] for value in store.features("BTCUSDT")] == [NOW_MS - 1000 * n for n in range(5, -1, -1)]

    def test_what_is_held_is_bounded(self) -> None:
        """By points a symbol, by time, and by symbols; a quiet symbol keeps its newest book."""
        store = BookStore(10_000, points_most=3, symbols_most=2)
        store.begin({0: 0})
        assert store.add(book(NOW_MS - 60_000, "QUIET"))
        for number in range(5):
            assert store.add(book(NOW_MS - 500 + 100 * number))
        assert not store.add(book(NOW_MS, "THIRD"))
        assert [orjson.loads(value)["E"] for value in store.features("BTCUSDT")] == [NOW_MS - 300, NOW_MS - 200, NOW_MS - 100]
        assert store.times() == {"BTCUSDT": NOW_MS - 100, "QUIET": NOW_MS - 60_000}
        assert store.features("QUIET") == ()
        store.begin({0: 9})
        assert store.times() == {}

    def test_features_as_columns_have_two_for_each_distance(self) -> None:
        """What a record lacks is null, and the distances are in order."""
        values = [book(NOW_MS, depth={"100": (1.0, 2.0), "5": (0.5, 0.25)}).features.value, book(NOW_MS).features.value]
        columns = features(values).columns
        bands = [name for name in columns if "depth" in name]
        assert bands == [f"{side}_depth_{band}" for band in (5, 10, 50, 100) for side in ("bid", "ask")]
        assert columns["ask_depth_5"] == [0.25, None]


def tick(series: Series, *numbers: int) -> Tick:
    items = [Item(series, number, 0, 0, 0, number, json.dumps({"n": number}).encode()) for number in numbers]
    cursor = {} if series is SERIES else {series.kind.topic: {0: numbers[-1] + 1}}
    return Tick([Part(series, items)], Cursor(cursor), Moment())


def taken(client: Client | StreamOutbox) -> list[dict[str, Any]]:
    outbox = client.waiting if isinstance(client, Client) else client
    found = []
    while (message := outbox.take()) is not None:
        found.append(json.loads(message.text))
    return found


class TestStream:
    """Who gets a book, and when."""

    @given(st.lists(st.tuples(st.integers(1, 3), st.booleans())))
    def test_books_never_wait_in_a_queue(self, steps: list[tuple[int, bool]]) -> None:
        """However slow a client is, one book waits; those sent and those told as left out add up to all, the newest always."""
        outbox = StreamOutbox(64, JSON)
        number, messages = 0, []
        for size, take in steps:
            outbox.put(tick(SERIES, *range(number, number + size)))
            number += size
            messages += taken(outbox) if take else []
        waiting = taken(outbox)
        assert len(waiting) <= 1
        parts = [part for message in messages + waiting for part in message["series"]]
        assert sum(1 + part.get("conflated", 0) for part in parts) == number
        assert [part["records"][0]["n"] for part in parts][-1:] == ([number - 1] if number else [])
        assert all("cursor" not in message for message in messages + waiting)

    def test_books_hold_up_no_cursor_and_no_window(self) -> None:
        """Windows go first, with their cursor; a book that waits is no update that a cursor might overtake."""
        outbox = StreamOutbox(64, JSON)
        outbox.put(tick(SERIES, 1))
        assert not outbox.updates_wait
        outbox.put(tick(WINDOWS, 5))
        outbox.put(tick(SERIES, 2))
        assert [message["series"][0]["kind"] for message in taken(outbox)] == ["windows", "books"]
        outbox.put(tick(SERIES, 3))
        outbox.forget({SERIES})
        assert taken(outbox) == []

    def test_a_follower_gets_the_newest_book_then_each_new_one(self) -> None:
        """A snapshot of the one that is held, or none; then what comes, byte for byte; a pattern means symbols that appear later."""
        store = BookStore()
        store.begin({0: 0})
        history = History(120_000, windows_most=10, symbols_most=10)
        stream = Stream(ServerConfig(), history, CandleStore(1), lambda: NOW_MS, store)
        hub = Hub(ServerConfig(), history, stream, Metrics(NOW_MS), lambda: NOW_MS)

        def come(found: Book) -> None:
            store.add(found)
            stream.books({found.symbol: found})

        first, second = book(NOW_MS - 2000), book(NOW_MS - 1000)
        come(first)
        client, pattern = hub.join(), hub.join()
        hub.handle(client, '{"op":"subscribe","kinds":["books"],"symbols":["BTCUSDT","NOUSDT"]}')
        hub.handle(pattern, '{"op":"subscribe","kinds":["books"],"symbols":["E*"]}')
        come(second)
        come(book(NOW_MS, "ETHUSDT"))
        subscribed, of_btc, of_none, update = taken(client)
        assert subscribed["symbols"] == ["BTCUSDT", "NOUSDT"]
        assert (of_btc["records"], of_none["records"]) == ([orjson.loads(first.value)], [])
        assert update["series"][0]["records"] == [orjson.loads(second.value)]
        assert [message["symbol"] for message in taken(pattern) if message["type"] == "snapshot"] == ["ETHUSDT"]
        hub.heartbeat()
        assert taken(client)[0]["age_ms"]["books"] == 0


def no_reader() -> Reader:
    raise BrokerError("expected no reading in this test")


def get(server: FastAPI, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://here") as client:
            return await client.get(path)

    return asyncio.run(ask())


class TestRest:
    """A server without a feed of books."""

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/v1/books", 200),
            ("/api/v1/books?x=1", 422),
            ("/api/v1/books/BTCUSDT", 503),
            ("/api/v1/books/two%20words", 422),
            ("/api/v1/books/BTCUSDT/features", 503),
            ("/api/v1/books/BTCUSDT/features?limit=1001", 422),
            ("/api/v1/books/BTCUSDT/features?from=2&to=1", 400),
        ],
    )
    def test_what_is_not_there_yet_or_not_right_is_said(self, path: str, status: int) -> None:
        """Before the topic is read nobody can tell whether there is a book."""
        answer = get(create_app(ServerConfig(), no_reader, lambda: NOW_MS), path)
        assert answer.status_code == status
        if status != 200:
            assert set(answer.json()["error"]) == {"status", "expected", "came", "do"}


class TestTradeWindows:
    """Windows over trades in the place of those over klines."""

    @pytest.mark.parametrize("end_ms", range(NOW_MS - 12_000, NOW_MS, 500))
    def test_a_window_over_trades_becomes_an_entry(self, end_ms: int) -> None:
        """Those without trades too, whose prices are null."""
        value = encode_event(trade_window_at("BTCUSDT", end_ms, NOW_MS - 60_000))
        found = entry_from(Record(TRADE_WINDOWS.name, None, value, end_ms - 1, partition=1, offset=3), NOW_MS, TradeWindow)
        assert (found.symbol, found.end_ms, found.since_ms, found.value) == ("BTCUSDT", end_ms, NOW_MS - 60_000, value)

    def test_a_window_over_klines_is_none_over_trades(self) -> None:
        """What lacks is named."""
        value = encode_event(Window("BTCUSDT", NOW_MS - 3000, NOW_MS, 2.0, 2.0, 1.0, 3.0, 3.25, 3, None, False, NOW_MS - 60_000))
        with pytest.raises(RecordError, match=r"^average_by_volume: "):
            entry_from(Record(TRADE_WINDOWS.name, None, value, NOW_MS - 1), NOW_MS, TradeWindow)

    def test_both_kinds_have_the_same_fields_and_one_some_more(self) -> None:
        """So whoever reads one can read the other."""
        assert {field.name for field in fields(Window)} < {field.name for field in fields(TradeWindow)}

    def test_cursors_name_the_topic_that_the_windows_are_of(self) -> None:
        """A cursor of the other topic is answered by a snapshot, one of this by what was missed."""
        history = History(120_000, windows_most=10, symbols_most=10, topic=TRADE_WINDOWS)
        history.begin({0: 0})
        stream = Stream(ServerConfig(), history, CandleStore(1), lambda: NOW_MS)
        hub = Hub(ServerConfig(), history, stream, Metrics(NOW_MS), lambda: NOW_MS)
        values = [encode_event(trade_window_at("BTCUSDT", NOW_MS + 500 * n, NOW_MS - 9000)) for n in range(2)]
        of_topic = [Record(TRADE_WINDOWS.name, None, value, NOW_MS, partition=0, offset=n) for n, value in enumerate(values)]
        hub.publish([entry_from(each, NOW_MS, TradeWindow) for each in of_topic])
        answers = []
        for topic in (TRADE_WINDOWS.name, RecordKind.WINDOWS.topic):
            client = hub.join()
            asked = {"op": "subscribe", "kinds": ["windows"], "symbols": ["BTCUSDT"], "cursor": {topic: {"0": 1}}}
            hub.handle(client, json.dumps(asked))
            answers.append(taken(client)[-1])
        assert [answer["type"] for answer in answers] == ["update", "snapshot"]
        assert [answer["cursor"] for answer in answers] == [{TRADE_WINDOWS.name: {"0": 2}}] * 2
