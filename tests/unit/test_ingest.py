"""What ingestion decides without a network: forms, sources, faults, bars, keys, order, who may post."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from klinestream.ingest.app import create_app
from klinestream.ingest.bars import BarRules, bars
from klinestream.ingest.bodies import JSON, NDJSON, values_of
from klinestream.ingest.gate import Gate, refuse_open
from klinestream.ingest.keys import KEPT_MS, Keys
from klinestream.ingest.metrics import Metrics
from klinestream.ingest.models import amount
from klinestream.ingest.order import Order
from klinestream.ingest.posted import Asked, klines, source_of, trades
from klinestream.ingest.refusals import FAULTS_MOST, PostError
from klinestream.ingest.run import metrics_served
from klinestream.market.candle_history import decode_history
from klinestream.market.codec import decode_kline
from klinestream.market.errors import ConfigError
from klinestream.market.events import IngestKey, KeyState
from klinestream.runtime.config import Config
from klinestream.runtime.ingest_section import IngestConfig
from klinestream.runtime.kafka import Record
from tests.ingesting import bar_post, kline_post, trade_post
from tests.ports import free_ports

NOW_MS = 1_764_410_400_000
DAY_S = 86_400
MIDNIGHT_S = NOW_MS // 1000 // DAY_S * DAY_S
ASKED = Asked("stocks", NOW_MS)


def faults(refused: pytest.ExceptionInfo[PostError]) -> list[tuple[int, str]]:
    return [(fault.record, fault.field) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("s", "btcusdt"),
        ("s", "BINANCE:BTCUSDT"),
        ("t", NOW_MS + 1),
        ("t", NOW_MS + 60_000),
        ("t", NOW_MS - 2 * DAY_S * 1000),
        ("t", "1764410390000"),
        ("i", "1m"),
        ("o", 10.5),
        ("n", True),
        ("origin", "live"),
        ("source", "binance"),
    ],
)
def test_a_kline_that_does_not_fit_names_its_field(field: str, value: object) -> None:
    """A wrong type, a time that isn't over or is too old, a symbol with a venue or a field of ours is told by record and field."""
    good = kline_post("A", NOW_MS - 10_000)
    bad = {name: one for name, one in kline_post("B", NOW_MS - 10_000).items() if field != "t" or name != "T"} | {field: value}
    with pytest.raises(PostError) as refused:
        klines([good, bad], ASKED)
    assert faults(refused) == [(1, field)]


@pytest.mark.parametrize("missing", ["s", "t", "o", "v", "n"])
def test_what_is_missing_is_named(missing: str) -> None:
    """A kline without a field that it needs is told so."""
    with pytest.raises(PostError) as refused:
        klines([{name: value for name, value in kline_post("A", NOW_MS - 10_000).items() if name != missing}], ASKED)
    assert faults(refused) == [(0, missing)]


def test_many_faults_are_told_up_to_a_bound() -> None:
    """Of ten thousand bad records the first faults are told, and the answer stays short."""
    with pytest.raises(PostError) as refused:
        klines(["x" * 1000] * 10_000, ASKED)
    assert len(refused.value.faults) == FAULTS_MOST
    assert len(refused.value.body) < 10_000


def test_records_of_a_symbol_come_in_order_and_once() -> None:
    """A kline that doesn't come after the one of its symbol before it is a fault; other symbols don't matter. So with trades' ids."""
    first, second = kline_post("A", NOW_MS - 9000), kline_post("A", NOW_MS - 8000)
    assert klines([first, kline_post("B", NOW_MS - 20_000), second], ASKED).count == 3
    for wrong in ([second, first], [first, first]):
        with pytest.raises(PostError) as refused:
            klines(wrong, ASKED)
        assert faults(refused) == [(1, "t")]
    with pytest.raises(PostError) as refused:
        trades([trade_post("A", 7, NOW_MS - 1000) | {"l": 9}, trade_post("A", 9, NOW_MS - 1000)], ASKED)
    assert faults(refused) == [(1, "f")]


@given(st.text(max_size=20))
def test_whatever_source_is_asked_for_no_symbol_goes_out_bare(text: str) -> None:
    """A source is refused, or is letters and digits that no feed has; the symbol then stands behind it and a colon."""
    try:
        source = source_of(text, "")
    except PostError:
        return
    record = klines([kline_post("BTCUSDT", NOW_MS - 5000)], Asked(source, NOW_MS)).records[0]
    assert source.isascii()
    assert source.isalnum()
    assert source not in ("binance", "finnhub")
    assert decode_kline(record.value or b"").symbol == f"{source.upper()}:BTCUSDT" == (record.key or b"").decode()


@given(st.integers(0, 10**15 - 1))
def test_an_amount_is_exact_or_refused(units: int) -> None:
    """A number of up to 15 digits, as JSON gives it, and the same as text are one amount, exactly."""
    text = f"{units // 10**6}.{units % 10**6:06d}"
    assert amount(orjson.loads(text)) == amount(text) == units * 100


@pytest.mark.parametrize("value", [True, None, -1, 1e300, 1e-9, 12345678901.12345, "1e5", "٣", [], float("inf")])
def test_what_is_no_amount_is_refused(value: object) -> None:
    """Neither a flag, nor below zero, nor beyond what is exact."""
    with pytest.raises(ValueError, match="number"):
        amount(value)


def test_forms_of_a_body() -> None:
    """An object, an array and lines are the same records; empty lines don't count; more than may be, or none, is refused."""
    one = {"a": 1}
    assert values_of(b'{"a":1}', JSON, 5) == values_of(b'[{"a":1}]', JSON, 5) == values_of(b'\n{"a":1}\r\n\n', NDJSON, 5) == [one]
    for body, form, status in ((b"[1,2]", JSON, 413), (b"1\n2", NDJSON, 413), (b"[]", JSON, 422), (b"{", JSON, 422), (b"{\n", NDJSON, 422)):
        with pytest.raises(PostError) as refused:
            values_of(body, form, 1)
        assert refused.value.status == status


def rows(posted: Any) -> list[list[Any]]:
    return [row for record in posted.records for row in orjson.loads(record.value)["rows"]]


def test_bars_become_runs_that_the_candles_job_reads() -> None:
    """Bars with a hole make a record a run, which the job's decoder takes; a bar's quote volume is at its typical price."""
    days = [MIDNIGHT_S - back * DAY_S for back in (6, 5, 2, 1)]
    posted = bars([bar_post("AAPL", day) for day in days], ASKED, BarRules())
    tables = [decode_history(record.value or b"", 0) for record in posted.records]
    assert [(table.symbol, table.interval, table.table.shape[1]) for table in tables] == [("STOCKS:AAPL", "1d", 2)] * 2
    assert rows(posted)[0][7] == "42000.00000000"  # 4000 × (11 + 10 + 10.5) / 3


def test_quiet_holes_are_flat_candles() -> None:
    """With holes=quiet the days between are flat at the close before, without volume, and all is one run."""
    posted = bars([bar_post("AAPL", MIDNIGHT_S - back * DAY_S) for back in (5, 2)], ASKED, BarRules(holes="quiet"))
    [table] = [decode_history(record.value or b"", 0) for record in posted.records]
    assert table.table.shape[1] == 4
    assert [(row[1], row[4], row[5], row[8]) for row in rows(posted)[1:3]] == [("10.50000000", "10.50000000", "0.00000000", 0)] * 2


def test_bars_are_kept_by_the_newest_of_their_record() -> None:
    """600 days up to yesterday are taken: their record is as old as its last bar. Not so a run, or a thousand bars, of before."""
    assert bars([bar_post("AAPL", MIDNIGHT_S - back * DAY_S) for back in range(600, 0, -1)], ASKED, BarRules()).count == 600
    with_hole = [bar_post("AAPL", MIDNIGHT_S - back * DAY_S) for back in (420, 410, 409, 2)]
    with pytest.raises(PostError) as refused:
        bars(with_hole, ASKED, BarRules())
    assert faults(refused) == [(0, "timestamp"), (2, "timestamp")]
    assert len(bars(with_hole, ASKED, BarRules(holes="quiet")).records) == 1
    with pytest.raises(PostError) as refused:
        bars([bar_post("AAPL", MIDNIGHT_S - back * DAY_S) for back in range(1500, 0, -1)], ASKED, BarRules())
    assert faults(refused) == [(999, "timestamp")]


def test_bars_that_begin_within_a_candle() -> None:
    """A bar that is stamped after midnight is refused, with the time that would do, or rounded down where that is asked for."""
    bar = bar_post("AAPL", MIDNIGHT_S - DAY_S + 5 * 3600)
    with pytest.raises(PostError, match=str(MIDNIGHT_S - DAY_S)):
        bars([bar], ASKED, BarRules())
    assert rows(bars([bar], ASKED, BarRules(align="down")))[0][0] == (MIDNIGHT_S - DAY_S) * 1000


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"data_type": "order_book"}, "data_type"),
        ({"timestamp": MIDNIGHT_S}, "timestamp"),
        ({"timestamp": NOW_MS}, "timestamp"),
        ({"closing_price": 12}, "closing_price"),
        ({"low": 0}, "low"),
        ({"interval": "1w"}, "interval"),
    ],
)
def test_a_bar_that_does_not_fit_names_its_field(change: dict[str, object], field: str) -> None:
    """Another kind of data, a day that isn't over, milliseconds, a price out of range: each is told by its field."""
    with pytest.raises(PostError) as refused:
        bars([bar_post("AAPL", MIDNIGHT_S - DAY_S) | change], ASKED, BarRules())
    assert faults(refused) == [(0, field)]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("AB")), max_size=30))
def test_late_is_what_stands_behind_a_newer_one(told: list[tuple[int, str]]) -> None:
    """Whatever comes, late are just those with a time below the greatest of their symbol before them."""
    order = Order()
    late = []
    for offset, (time_ms, symbol) in enumerate(told):
        order.take(Record("t", f"X:{symbol}".encode(), b"", time_ms, (), 0, offset))
        if any(other == symbol and before > time_ms for before, other in told[:offset]):
            late.append(offset)
    assert order.late(0, range(len(told))) == late
    assert order.late(1, range(len(told))) == []


def test_the_first_claim_of_a_key_counts_for_a_day() -> None:
    """A later claim and an answer of another request change nothing; after a day the key is free; of too many the oldest goes."""
    keys = Keys(keys_most=2)
    keys.take(IngestKey("k", KeyState.CLAIMED, "one", "a", "", 1000))
    keys.take(IngestKey("k", KeyState.CLAIMED, "two", "b", "", 1001))
    keys.take(IngestKey("k", KeyState.DONE, "two", "b", "{}", 1002))
    held = keys.held("k", 1003)
    assert held is not None
    assert (held.digest, held.answer) == ("one", "")
    keys.take(IngestKey("k", KeyState.DONE, "one", "a", "{1}", 1004))
    assert held.answer == "{1}"
    assert keys.held("k", 1000 + KEPT_MS) is None
    keys.take(IngestKey("k", KeyState.CLAIMED, "two", "c", "", 1000 + KEPT_MS))
    for name in ("l", "m"):
        keys.take(IngestKey(name, KeyState.CLAIMED, "x", name, "", 2000 + KEPT_MS))
    assert (len(keys), keys.held("k", 2000 + KEPT_MS)) == (2, None)


def posted(requests: list[dict[str, str]], **settings: object) -> list[httpx.Response]:
    """What a gate before a route that says yes answers to posts with these headers."""
    config = Config(ingest=settings).ingest
    gate = Gate(Starlette(routes=[Route("/ingest", lambda _: PlainTextResponse("yes"), methods=["POST"])]), config, Metrics())

    async def run() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://localhost") as client:
            return [await client.post("/ingest", headers=headers) for headers in requests]

    return asyncio.run(run())


def test_who_may_post() -> None:
    """Without tokens only this machine's names, never a browser's page, and nobody beyond the limit; with tokens who shows one."""
    strangers = posted([{"host": "evil.example"}, {"origin": "http://localhost"}])
    assert [answer.status_code for answer in strangers] == [403, 403]
    answers = posted([{}] * 3, requests_per_s=1, records_per_s=5000)
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["retry-after"]) > 0
    tokens = ("not-the-right-one", "correct-horse-battery", "a-token-of-its-own")
    shown = [{}, *({"authorization": f"Bearer {token}"} for token in tokens)]
    asked = posted(shown, tokens="correct-horse-battery,stocks:a-token-of-its-own")
    assert [answer.status_code for answer in asked] == [401, 401, 200, 200]


def test_a_bound_token_posts_for_its_source_alone() -> None:
    """`stocks:…` in the tokens binds one to its source; another source is refused to it."""
    config = Config(ingest={"tokens": "stocks:0123456789abcdef,correct-horse-battery"}).ingest
    assert config.accepted_tokens == (("stocks", "0123456789abcdef"), ("", "correct-horse-battery"))
    assert source_of(None, "stocks") == "stocks"
    with pytest.raises(PostError):
        source_of("other", "stocks")


def test_beyond_this_machine_tokens_are_needed() -> None:
    """An address that others reach, without tokens, is an error that names the variable."""
    anywhere = "0.0.0.0"  # noqa: S104  # it is refused
    with pytest.raises(ConfigError, match="KLINESTREAM_INGEST__TOKENS"):
        refuse_open(IngestConfig(host=anywhere), anywhere)
    refuse_open(IngestConfig(), "127.0.0.1")
    refuse_open(Config(ingest={"host": anywhere, "tokens": "correct-horse-battery"}).ingest, anywhere)


def nothing() -> Any:
    """In the place of Kafka, which nobody asks for."""
    raise AssertionError("no broker is asked")


def test_metrics_need_no_token_and_stand_apart() -> None:
    """Whoever reads metrics has no token to post with: they have an address of their own, and the public one has none."""
    port, metrics_port = free_ports(2)
    config = Config(ingest={"port": port, "metrics_port": metrics_port, "tokens": "correct-horse-battery"}).ingest
    app = create_app(config, nothing, nothing, "replica")
    with metrics_served(config, app):
        told = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics")
        health = httpx.get(f"http://127.0.0.1:{metrics_port}/healthz")
    names = [line.split()[0] for line in told.text.splitlines() if not line.startswith("#")]
    assert "klinestream_ingest_keys" in names
    assert names.count("process_start_time_seconds") == 1
    assert (health.status_code, health.text.splitlines()[0]) == (503, "no connection to the broker")
    assert "/metrics" not in {route.path for route in app.routes if isinstance(route, Route)}


def test_without_a_port_there_are_no_metrics() -> None:
    """0 is for none."""
    config = Config(ingest={"metrics_port": 0}).ingest
    with metrics_served(config, create_app(config, nothing, nothing, "replica")):
        pass
