"""What the ledger and the records call proved: only klines of REST whose number of trades an id has told."""

import orjson
import pytest

from klinestream.market.codec import decode_gap, decode_kline, encode_kline
from klinestream.market.continuity import Tail
from klinestream.market.events import SECOND_MS
from klinestream.market.topics import FEED_GAPS, KLINES
from tests.feeding import BEGIN_S, Fed

SYMBOL = "BTCUSDT"


def filled(fed: Fed) -> tuple[bool, list[str]]:
    """What the ledger says of the gap, and the proof of each kline that REST gave."""
    entry = decode_gap(fed.published.of(FEED_GAPS.name)[-1])
    assert entry.state.value == "refilled"
    records = map(orjson.loads, fed.published.of(KLINES.name))
    return entry.proved, [record["proof"] for record in records if record["origin"] == "rest"]


def test_klines_that_ids_on_both_sides_count_are_proved() -> None:
    """As many trades as ids are missing."""
    fed = Fed()
    fed.live(0, 3)
    fed.rest([2, 0])
    assert filled(fed) == (True, ["count", "count"])


@pytest.mark.parametrize("trades", [0, 2])
def test_klines_before_quiet_seconds_are_not_proved(trades: int) -> None:
    """A quiet second behind them tells no id: whatever REST says of them, a trade that it lacks would not be noticed yet."""
    fed = Fed()
    fed.live(0, 2)
    fed.rest([trades])
    assert filled(fed) == (False, ["none"])


def test_klines_after_a_record_without_an_id_are_not_proved() -> None:
    """Where nobody knows the newest trade before them, the next trade's id tells nothing of their number."""
    fed = Fed(follow=False)
    fed.feed.follow([SYMBOL], {SYMBOL: Tail(BEGIN_S * SECOND_MS, "1.00000000", None)}, {})
    fed.live(3)
    fed.rest([7, 0])
    assert filled(fed) == (False, ["none", "none"])


def test_klines_before_ids_that_run_backwards_are_not_proved() -> None:
    """The exchange has begun to count anew, or what is published is wrong."""
    fed = Fed(follow=False)
    fed.feed.follow([SYMBOL], {SYMBOL: Tail(BEGIN_S * SECOND_MS, "1.00000000", 10**15)}, {})
    fed.live(3)
    fed.rest([2, 0])
    assert filled(fed) == (False, ["none", "none"])


def test_what_is_not_proved_is_read_as_it_was_written() -> None:
    """The codec writes the same bytes of it."""
    fed = Fed()
    fed.live(0, 2)
    fed.rest([2])
    for value in fed.published.of(KLINES.name):
        assert orjson.loads(encode_kline(decode_kline(value))) == orjson.loads(value)
