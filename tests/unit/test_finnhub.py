"""What Finnhub's messages say, what becomes of each trade, and what the stand-in says in their place."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.cli.up import Exchange, Options, effective
from klinestream.market.codec import decode_kline, decode_trade, encode_kline
from klinestream.market.continuity import Tail
from klinestream.market.decimals import UNIT, nearest
from klinestream.market.errors import ConfigError, RecordError
from klinestream.market.events import IdGapState
from klinestream.market.topics import KLINES, TRADES
from klinestream.runtime.config import Config
from klinestream.standin.finnhub.listing import EXAMPLES, listing
from klinestream.standin.finnhub.messages import INVALID_SYMBOL, PING, TOO_MANY_SYMBOLS, error, number
from klinestream.standin.finnhub.session import SYMBOLS_MOST, FinnhubSession
from klinestream.standin.session import Close, Reply, Rules
from producer.feeds.finnhub import LATE, Finnhub, FinnhubSeries
from producer.feeds.interface import Entry, Step, Unusable
from producer.frames import Passed
from producer.frames import Reply as Said
from tests.klines import START_MS, kline

KEY = "c0ffee/&="
GRACE_MS = 2000
AAPL = "FINNHUB:AAPL"


def feed(**finnhub: Any) -> Finnhub:
    return Finnhub(Config(finnhub={"token": KEY, "symbols": ("AAPL", "OANDA:EUR_USD")} | finnhub))  # type: ignore[arg-type]


def message(*trades: str) -> bytes:
    return b'{"data":[%b],"type":"trade"}' % ",".join(trades).encode()


def trade(p: str = "122.1", v: str = "1", s: str = '"AAPL"', t: str = str(START_MS), c: str = "null") -> str:
    return f'{{"c":{c},"p":{p},"s":{s},"t":{t},"v":{v}}}'


def read(*trades: str) -> list[Entry | Unusable]:
    said = feed().read(message(*trades), START_MS)
    assert isinstance(said, list)
    return said


def test_the_key_stands_in_the_address_alone() -> None:
    """Escaped; and a venue that repeats it in an error is not repeated."""
    assert feed().url() == "wss://ws.finnhub.io?token=c0ffee%2F%26%3D"
    assert feed().read(orjson.dumps({"type": "error", "msg": f"wrong key {KEY}"}), 0) == Said(None, "wrong key (the key)")


def test_without_a_key_or_a_symbol_there_is_no_feed() -> None:
    """The message names the variable, or the key of the configuration."""
    with pytest.raises(ConfigError, match="KLINESTREAM_FINNHUB__TOKEN"):
        feed(token="")
    with pytest.raises(ConfigError, match=r"finnhub\.symbols"):
        feed(symbols=())


def test_each_symbol_is_asked_for_by_a_message_under_its_own_name() -> None:
    """Without a reply that would have to come."""
    assert feed().requests("SUBSCRIBE", ["FINNHUB:AAPL", "FINNHUB:OANDA:EUR_USD"], 1) == [
        (None, b'{"type":"subscribe","symbol":"AAPL"}'),
        (None, b'{"type":"subscribe","symbol":"OANDA:EUR_USD"}'),
    ]
    assert feed().requests("UNSUBSCRIBE", ["FINNHUB:AAPL"], 1) == [(None, b'{"type":"unsubscribe","symbol":"AAPL"}')]


def test_a_message_is_split_into_trades_to_the_last_digit() -> None:
    """Of several symbols; numbers of more digits than a float holds, with exponents, without volume."""
    said = read(
        trade(c='["1","12"]'), trade("90071992547.40993125", "1234.12345678"), trade("1.2e-7", "0", '"OANDA:EUR_USD"'), trade("5E3")
    )
    assert [(one.symbol, one.content.price, one.content.quantity) for one in said if isinstance(one, Entry)] == [
        (AAPL, 12_210_000_000, UNIT),
        (AAPL, 9_007_199_254_740_993_125, 123_412_345_678),
        ("FINNHUB:OANDA:EUR_USD", 12, 0),
        (AAPL, 5000 * UNIT, UNIT),
    ]
    assert isinstance(said[0], Entry)
    assert said[0].content.conditions == ("1", "12")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("7", "data: expected objects"),
        ("{}", "s: expected"),
        (trade(s='"two words"'), "s: expected"),
        (trade(s="17"), "s: expected"),
        (trade("0"), "p: expected a price"),
        (trade("1e-9"), "p: expected a price"),
        (trade("1e11"), "p: expected a price"),
        (trade("-1"), "p: expected a number"),
        (trade("NaN"), "p: expected a number"),
        (trade('"1.5"'), "p: expected a number"),
        (trade("1e999999999"), "p: expected a number"),
        (trade(v="null"), "v: expected a number"),
        (trade(v="1e15"), "v: expected a number"),
        (trade("1e10", "1e10"), "p, v: expected a value"),
        (trade(t="1.5"), "t: expected ms"),
        (trade(t="-1"), "t: expected ms"),
        (trade(t="9" * 4000), "t: expected ms"),
        (trade(t=str(START_MS + 2001)), "t: lies ahead of our clock"),
        (trade(c="[1]"), "c: expected codes"),
        (trade(c='"1"'), "c: expected null"),
        (trade(c="[" + ",".join(['"1"'] * 33) + "]"), "c: expected null"),
    ],
)
def test_one_bad_trade_is_told_as_it_was_written_and_the_others_count(bad: str, reason: str) -> None:
    """With a reason that says which field."""
    before, wrong, after = read(trade(), bad, trade())
    assert isinstance(before, Entry)
    assert isinstance(after, Entry)
    assert isinstance(wrong, Unusable)
    assert wrong.reason.startswith(reason)
    assert wrong.raw == bad.encode()


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[]", b"{}", b'{"type":"trade"}', b'{"type":"news","data":[]}', b'{"type":["trade"],"data":[]}', b"[" * 100_000]
)
def test_what_is_no_message_is_a_record_error(raw: bytes) -> None:
    """However it is broken."""
    with pytest.raises(RecordError):
        feed().read(raw, START_MS)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_nothing_breaks_the_reading(part: bytes) -> None:
    """Any bytes within a message are trades, something told, or a record error."""
    for raw in (part, b'{"type":"trade","data":[%b]}' % part, b'{"type":"trade","data":[{"s":"A","p":%b,"t":1,"v":1}]}' % part):
        try:
            feed().read(raw, START_MS)
        except RecordError:
            continue


def test_a_ping_is_passed() -> None:
    """As the stand-in sends it."""
    assert feed().read(PING, 0) is Passed.PING


def entry(after_ms: int, price: str = "1") -> Entry:
    (one,) = read(trade(price, t=str(START_MS + after_ms))) if after_ms <= GRACE_MS else _later(after_ms, price)
    assert isinstance(one, Entry)
    return one


def _later(after_ms: int, price: str) -> list[Entry | Unusable]:
    said = feed().read(message(trade(price, t=str(START_MS + after_ms))), START_MS + after_ms)
    assert isinstance(said, list)
    return said


def numbers(step: Step) -> list[int]:
    return [decode_trade(out.value).first_id for out in step.out if out.topic == TRADES.name]


def seconds(step: Step) -> list[int]:
    return [(decode_kline(out.value).open_time_ms - START_MS) // 1000 for out in step.out if out.topic == KLINES.name]


def series(tail: bytes | None = None, newest: Tail | None = None) -> FinnhubSeries:
    return FinnhubSeries(AAPL, GRACE_MS, tail, newest)


def test_trades_are_numbered_and_seconds_closed_by_later_ones_and_by_the_clock() -> None:
    """The second of the first trade is not given, since nobody knows what came before it."""
    machine = series()
    steps = [machine.live(entry(ms)) for ms in (100, 1100, 1200, 2100)]
    assert [numbers(step) for step in steps] == [[1], [2], [3], [4]]
    assert [seconds(step) for step in steps] == [[], [], [], [1]]
    assert seconds(machine.tick(START_MS + 5000)) == [2]
    marks = orjson.loads(steps[3].out[1].value)
    assert (marks["source"], marks["proof"], marks["origin"], marks["f"], marks["last_trade_id"]) == ("finnhub", "none", "built", 2, 3)


def test_a_late_trade_is_told_and_gets_no_number() -> None:
    """As it was written."""
    machine = series()
    machine.live(entry(100))
    machine.tick(START_MS + 3000)
    step = machine.live(entry(999, "1.50"))
    assert step.letters == [Unusable(LATE, trade("1.50", t=str(START_MS + 999)).encode())]
    assert not step.out
    assert numbers(machine.live(entry(1000))) == [2]


def test_a_lost_connection_leaves_a_number_out_and_a_hole() -> None:
    """The ledger has the number, and what was open when it was lost is never given."""
    machine = series()
    for ms in (100, 1100, 2100):
        machine.live(entry(ms))
    machine.interrupted()
    machine.interrupted()
    assert not machine.tick(START_MS + 9000).out
    step = machine.live(entry(9500))
    assert numbers(step) == [5]
    assert [(gap.from_id, gap.to_id, gap.state, gap.after_ms, gap.before_ms) for gap in step.gaps] == [
        (4, 5, IdGapState.UNFILLABLE, START_MS + 2100, START_MS + 9500)
    ]
    assert seconds(machine.tick(START_MS + 13_000)) == [10]


@pytest.mark.parametrize(("of_kline", "expected"), [(2, 5), (7, 9)])
def test_after_a_kill_numbers_go_on_after_the_further_of_both_topics(of_kline: int, expected: int) -> None:
    """And no second is given that a kline in the topic has."""
    before = series()
    for ms in (100, 200, 300):
        newest = before.live(entry(ms)).out[0].value
    last = kline(AAPL, 4, last_trade_id=of_kline)
    machine = series(newest, Tail(last.open_time_ms, orjson.loads(encode_kline(last))["c"], last.last_trade_id))
    assert machine.live(entry(4999)).letters
    assert numbers(machine.live(entry(5000))) == [expected]
    assert seconds(machine.live(entry(7000))) == [6]


def test_up_points_the_feed_at_the_stand_in_with_a_made_up_key() -> None:
    """Never the real one; with the real exchange all stays as it is configured."""
    config = Config(finnhub={"token": KEY})  # type: ignore[arg-type]
    told = effective(config, Options()).finnhub
    assert told.token.get_secret_value() == "standin"
    assert told.symbols == EXAMPLES
    assert told.websocket_url == f"ws://127.0.0.1:{config.stack.standin_port}"
    assert effective(config, Options(Exchange.BINANCE)).finnhub == config.finnhub


@given(st.integers(0, UNIT * 10**15 - 1))
def test_the_stand_ins_numbers_are_read_back_as_they_were(value: int) -> None:
    """With exponents where a JSON writer takes them."""
    orjson.loads(number(value))
    assert nearest(number(value)) == value


def session(rules: Rules | None = None) -> FinnhubSession:
    return FinnhubSession("k", listing([f"S{n}USDT" for n in range(60)]), opened_ms=0, rules=rules or Rules())


def ask(of: FinnhubSession, what: str, name: str) -> list[bytes]:
    return [action.text for action in of.message(orjson.dumps({"type": what, "symbol": name}), 0) if isinstance(action, Reply)]


def test_the_stand_in_takes_what_it_lists_up_to_the_limit() -> None:
    """An error for the rest, and room again after an unsubscribe."""
    one = session()
    assert ask(one, "subscribe", "NOBODY") == [error(INVALID_SYMBOL)]
    assert [ask(one, "subscribe", f"BINANCE:S{n}USDT") for n in range(SYMBOLS_MOST)] == [[]] * SYMBOLS_MOST
    assert ask(one, "subscribe", "AAPL") == [error(TOO_MANY_SYMBOLS)]
    assert ask(one, "unsubscribe", "BINANCE:S0USDT") == []
    assert ask(one, "subscribe", "AAPL") == []
    assert "AAPL" in one.names


def test_the_stand_in_pings_and_ends_a_session() -> None:
    """At the pace of its rules."""
    one = session(Rules(ping_ms=1000, session_ms=2500))
    assert one.tick(999) == ()
    assert Reply(PING) in one.tick(one.due_ms)
    (end,) = one.tick(2500)
    assert isinstance(end, Close)
    assert one.tick(5000) == ()
