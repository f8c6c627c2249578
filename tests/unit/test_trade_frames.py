"""Frames of trades: what is passed on in its text and what the codec judges give the same record; what is none is told why."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market import codec, decimals
from klinestream.market.errors import RecordError
from klinestream.market.events import Origin, Proof, Trade
from klinestream.runtime.config import Config
from producer.feeds.binance_trades import BinanceTrades
from producer.feeds.interface import Entry
from producer.frames import Reply, Shutdown

NOW_MS = 1_700_000_000_000
AGGREGATE = {
    "e": "aggTrade", "E": NOW_MS, "s": "BTCUSDT", "a": 12, "p": "100.50000000", "q": "1.00000000", "f": 40, "l": 42, "T": NOW_MS - 1,
    "m": True, "M": True,
}  # fmt: skip  # as the exchange groups them
SINGLE = {
    "e": "trade", "E": NOW_MS, "s": "BTCUSDT", "t": 40, "p": "100.50000000", "q": "1.00000000", "T": NOW_MS - 1, "m": False, "M": True
}  # fmt: skip  # as the exchange groups them


def feed(stream: str = "aggTrade") -> BinanceTrades:
    config = Config()
    return BinanceTrades(config.model_copy(update={"trades": config.trades.model_copy(update={"stream": stream})}))


def frame(data: dict[str, Any], **changes: Any) -> bytes:
    told = data | changes
    return orjson.dumps({"stream": f"{str(data['s']).lower()}@{data['e']}", "data": told})


def entry(of: BinanceTrades, raw: bytes) -> Entry:
    found = of.read(raw, NOW_MS)
    assert isinstance(found, list)
    (one,) = found
    return one


amounts = st.integers(1, 10**20).map(decimals.show)


@given(amounts, amounts, st.integers(0, 2**62), st.integers(0, 5), st.booleans())
def test_both_ways_give_the_same_bytes(price: str, quantity: str, first: int, more: int, maker: bool) -> None:
    """A trade written otherwise (fewer decimals) gives the record of the one written in the usual way, and both decode to it."""
    if decimals.parse(price) > decimals.PRICE_MOST:
        price = "1.00000000"
    usual = AGGREGATE | {"p": price, "q": quantity, "f": first, "l": first + more, "m": maker}
    short = usual | {"p": price.rstrip("0").rstrip("."), "q": quantity.rstrip("0").rstrip(".")}
    one, other = entry(feed(), frame(usual)), entry(feed(), frame(short))
    assert one == other
    assert codec.decode_trade(one.content[1]) == Trade(
        "BTCUSDT", 12, first, first + more, decimals.parse(price), decimals.parse(quantity), NOW_MS - 1, maker, None,
        Origin.LIVE, "binance", Proof.IDS,
    )  # fmt: skip  # one line a kind of field
    assert codec.encode_event(codec.decode_trade(one.content[1])) == one.content[1]


def test_a_single_trade_has_no_aggregate() -> None:
    """Its id is its first and its last."""
    found = entry(feed("trade"), frame(SINGLE))
    assert (found.first_id, found.last_id, found.content[0]) == (40, 40, None)
    assert codec.decode_trade(found.content[1]).aggregate_id is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"p": "0.00000000"}, "p: expected a price above 0 and below 9.2e10"),
        ({"p": "1e5"}, "p: expected a decimal string"),
        ({"p": 1.5}, "p: expected a decimal string"),
        ({"q": "-1.00000000"}, "q: expected a decimal string"),
        ({"q": None}, "q: expected a decimal string"),
        ({"f": 43}, "f, l: expected ids, f not after l"),
        ({"f": "40"}, "f: expected an integer from 0"),
        ({"l": 2**63}, "l: expected an integer from 0"),
        ({"a": None}, "f, l: a single trade has one id"),
        ({"a": None, "l": 40}, "a: expected an integer from 0"),
        ({"a": -1}, "a: expected an integer from 0"),
        ({"a": True}, "a: expected an integer from 0"),
        ({"T": NOW_MS + 60_000}, "T: lies ahead of our clock"),
        ({"T": -1}, "T: expected ms since 1970"),
        ({"m": 1}, "m: expected true or false"),
        ({"m": None}, "m: expected true or false"),
        ({"s": "ETHUSDT"}, "s: expected the symbol of a stream that was asked for"),
        ({"e": "trade"}, "e: expected aggTrade"),
    ],
)
def test_what_is_no_trade_is_told_why(changes: dict[str, Any], reason: str) -> None:
    """The reason is short, names the field, and fits a dead letter."""
    with pytest.raises(RecordError) as raised:
        feed().read(frame(AGGREGATE, **changes), NOW_MS)
    assert str(raised.value).startswith(reason)


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"5", b'{"data":3}', b'{"stream":"x","data":[]}', b"{"])
def test_other_bytes_are_told_too(raw: bytes) -> None:
    """Whatever comes, it is a RecordError."""
    with pytest.raises(RecordError):
        feed().read(raw, NOW_MS)


def test_replies_and_the_shutdown_are_for_the_connection() -> None:
    """As the exchange's other streams have them."""
    assert feed().read(b'{"result":null,"id":7}', NOW_MS) == Reply(7)
    assert feed().read(b'{"stream":"!x","data":{"e":"serverShutdown","E":1}}', NOW_MS) == Shutdown()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"origin": "derived"}, "origin: expected live, rest, posted, file"), ({"proof": "hope"}, "proof: expected ids, count, none")],
)
def test_a_record_s_words_are_of_the_known_ones(changes: dict[str, Any], reason: str) -> None:
    """Origin and proof."""
    line = orjson.loads(entry(feed(), frame(AGGREGATE)).content[1]) | changes
    with pytest.raises(RecordError, match=reason):
        codec.decode_trade(orjson.dumps(line))
