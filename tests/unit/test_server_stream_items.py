"""What goes from the reading threads to the event loop: items of what can be decoded, and never more than the loop can take."""

import asyncio
import threading
from functools import partial
from typing import Any

import orjson

from klinestream.market.kinds import RecordKind
from klinestream.market.topics import CANDLES, SIGNALS
from klinestream.runtime.kafka import Record
from server.candles.rows import decode_candles, decode_signals
from server.hand_over import CALLS_WAITING_MOST, HandOver
from server.rest.docs import CANDLE, SIGNAL
from server.stream.items import items_of
from server.stream.series import Item, Series

NOW_MS = 1_790_000_100_000


def record(topic: str, offset: int, value: Any) -> Record:
    return Record(topic, b"BTCUSDT", orjson.dumps(value), 0, partition=3, offset=offset)


def test_of_a_batch_with_faults_the_good_ones_are_items() -> None:
    """Each with its own place and bytes; what can't be decoded is left out."""
    decode = partial(decode_candles, now_ms=NOW_MS)
    records = [record(CANDLES.name, n, value) for n, value in enumerate((CANDLE, {"s": "BTCUSDT"}, CANDLE | {"revision": 5}))]
    items = items_of(RecordKind.CANDLES, records, decode([each.value for each in records]), decode)
    series = Series(RecordKind.CANDLES, CANDLE["s"], CANDLE["i"])
    places = (CANDLE["revision"], 0), (5, 2)
    assert items == [Item(series, CANDLE["t"], n, 0, 3, at, records[at].value or b"", klines=CANDLE["klines"]) for n, at in places]


def test_of_one_revision_the_candle_of_more_klines_ranks_higher() -> None:
    """So one of fewer, which a job told that started within it, is no news where the whole one was told."""
    decode = partial(decode_candles, now_ms=NOW_MS)
    changes: tuple[dict[str, Any], ...] = ({"klines": 7}, {}, {"klines": 0, "revision": 3})
    records = [record(CANDLES.name, n, CANDLE | change) for n, change in enumerate(changes)]
    part, whole, corrected = items_of(RecordKind.CANDLES, records, decode([each.value for each in records]), decode)
    assert part.rank < whole.rank < corrected.rank


def test_a_signal_is_known_by_its_rule_and_side() -> None:
    """Two rules may speak of one candle."""
    decode = partial(decode_signals, now_ms=NOW_MS)
    records = [record(SIGNALS.name, 0, SIGNAL)]
    [item] = items_of(RecordKind.SIGNALS, records, decode([each.value for each in records]), decode)
    assert (item.detail, item.since_ms) == (f"{SIGNAL['rule']}:{SIGNAL['side']}", SIGNAL["since"])


def test_no_more_waits_than_the_loop_may_be_behind() -> None:
    """Calls come in order; one too many waits, until the reading ends."""
    stopping = threading.Event()
    stopping.set()
    hand_over = HandOver(stopping)
    loop = asyncio.new_event_loop()
    hand_over.to(loop)
    received: list[int] = []
    for number in range(CALLS_WAITING_MOST + 1):
        hand_over.call(received.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    hand_over.call(received.append, 99)
    assert received == list(range(CALLS_WAITING_MOST))
