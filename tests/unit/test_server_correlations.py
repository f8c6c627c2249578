"""/api/v1/correlations without a broker: of which candles it is, what is kept, how it is answered."""

import csv
import io
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from fastapi import FastAPI

from klinestream.market.correlations import SYMBOLS_MOST, Rule, graph
from klinestream.market.intervals import INTERVALS, MINUTE_MS
from klinestream.runtime.server_sections import ServerConfig
from server.app import create_app
from server.candles.rows import decode_candles
from server.candles.store import CandleStore
from server.rest import correlations
from server.rest.correlation_table import Window, edge_table, graph_of, node_columns
from tests.unit.test_server_market import NOW_MS, ask, candle, no_reader

PATH = "/api/v1/correlations"
LAST_MS = NOW_MS // MINUTE_MS * MINUTE_MS - MINUTE_MS
CANDLES = 40
NAMES = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def closes_of(seed: int = 5) -> list[list[float]]:
    """Of three symbols: the second goes with the first, the third its own way."""
    walks = np.random.default_rng(seed).normal(0, 0.01, (2, CANDLES)).cumsum(axis=1)
    return [[round(float(price), 8) for price in 100 * np.exp(walk)] for walk in (walks[0], walks[0] * 1.5, walks[1])]


def prices(close: float) -> dict[str, str]:
    """Of a candle that does nothing but close."""
    return dict.fromkeys("ohlc", f"{close:.8f}")


def filled(interval: str = "1m") -> CandleStore:
    store = CandleStore(500)
    length_ms = INTERVALS[interval]
    last_ms = NOW_MS // length_ms * length_ms - length_ms
    for name, closes in zip(NAMES, closes_of(), strict=True):
        opens = range(last_ms - (CANDLES - 1) * length_ms, last_ms + 1, length_ms)
        put(store, *(candle(t, interval, name, **prices(close)) for t, close in zip(opens, closes, strict=True)))
    return store


def put(store: CandleStore, *candles: bytes) -> None:
    found = decode_candles(candles, NOW_MS)
    assert found.rejected == 0
    store.candles.put(found.series, found.rows)


def server_with(store: CandleStore, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """A server that holds these candles, without having read any."""
    monkeypatch.setattr("server.app.CandleStore", lambda _: store)
    return create_app(ServerConfig(), no_reader, lambda: NOW_MS)


def test_the_graph_is_that_of_the_one_definition() -> None:
    """Of the window's closes, as they stand in the store: what the engine's own function says, place for place."""
    end_ms, found = graph_of(NAMES, filled(), Window("1m", CANDLES), Rule(0.5, 5))
    expected = graph(NAMES, np.array(closes_of()), Rule(0.5, 5))
    assert end_ms == LAST_MS + MINUTE_MS
    assert node_columns(found) == node_columns(expected)
    assert edge_table(found).columns == edge_table(expected).columns
    assert node_columns(found)["candles"] == [CANDLES] * 3


def test_holes_and_incomplete_candles_are_no_closes() -> None:
    """A candle that lacks seconds counts no more than one that isn't there; neither does one older than the window."""
    store = filled()
    put(store, candle(LAST_MS - 5 * MINUTE_MS, "1m", "BTCUSDT", complete=False, revision=1, **prices(9000.0)))
    put(store, candle(LAST_MS + MINUTE_MS, "1m", "SOLUSDT", c="101.00000000"))
    end_ms, found = graph_of(NAMES, store, Window("1m", CANDLES), Rule(0.5, 5))
    assert end_ms == LAST_MS + 2 * MINUTE_MS
    told = node_columns(found)
    assert told["candles"] == [CANDLES - 2, CANDLES - 1, CANDLES]
    # Each hole takes two returns, but the one at the end and the one that the window has left behind.
    assert told["returns"] == [CANDLES - 4, CANDLES - 2, CANDLES - 1]
    assert edge_table(found).columns["observations"] == [CANDLES - 4]


def test_what_is_too_short_says_how_much_there_is() -> None:
    """Four candles: no correlation, no edge, no place; and the four."""
    store = CandleStore(500)
    for name in NAMES:
        put(store, *(candle(LAST_MS - back * MINUTE_MS, "1m", name) for back in range(4)))
    _, found = graph_of(NAMES, store, Window("1m", 60), Rule())
    told = node_columns(found)
    assert told["candles"] == [4, 4, 4]
    assert told["x"] == told["y"] == told["group"] == [None] * 3
    assert edge_table(found).columns["r"] == []


def test_an_answer_names_its_window_and_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes and edges as columns of one length each, in the document's order; the strongest pair first."""
    server = server_with(filled(), monkeypatch)
    [answer, document] = ask(server, (f"{PATH}?candles=40&least=0.5", {}), ("/api/openapi.json", {}))
    told = answer.json()
    content = document.json()["paths"][PATH]["get"]["responses"]["200"]["content"]["application/json"]
    assert list(told) == content["schema"]["required"] == list(content["example"])
    for part in ("nodes", "edges"):
        assert list(told[part]) == content["schema"]["properties"][part]["required"] == list(content["example"][part])
        assert len({len(column) for column in told[part].values()}) == 1
    assert (told["time"], told["from"]) == (LAST_MS + MINUTE_MS, LAST_MS + MINUTE_MS - 40 * MINUTE_MS)
    assert (told["edges"]["a"], told["edges"]["b"]) == (["BTCUSDT"], ["ETHUSDT"])
    assert told["edges"]["r"][0] > 0.999
    assert told["candles_read"] is False


def test_edges_are_a_table_in_csv_and_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pairs, with the same numbers."""
    server = server_with(filled(), monkeypatch)
    question = f"{PATH}?candles=40&least=0"
    [as_json, as_csv, as_arrow] = ask(server, (question, {}), (f"{question}&format=csv", {}), (question, {"accept": ARROW}))
    edges = as_json.json()["edges"]
    assert len(edges["r"]) == 3
    assert [float(row["r"]) for row in csv.DictReader(io.StringIO(as_csv.text))] == edges["r"]
    assert pl.read_ipc_stream(io.BytesIO(as_arrow.content)).to_dict(as_series=False) == edges


ARROW = "application/vnd.apache.arrow.stream"


def test_symbols_that_are_named_are_the_only_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order, each once; a pair's numbers are those that it has among all."""
    server = server_with(filled(), monkeypatch)
    ways = ("SOLUSDT,ETHUSDT", "ETHUSDT,SOLUSDT,ETHUSDT")
    [one, other, whole] = ask(
        server, *((f"{PATH}?candles=40&least=0&symbols={names}", {}) for names in ways), (f"{PATH}?candles=40&least=0", {})
    )
    assert one.content == other.content
    assert one.json()["nodes"]["symbol"] == ["ETHUSDT", "SOLUSDT"]
    pairs = [dict(zip(("a", "b", "r"), pair, strict=True)) for pair in zip(*(whole.json()["edges"][k] for k in "abr"), strict=True)]
    assert {"a": "ETHUSDT", "b": "SOLUSDT", "r": one.json()["edges"]["r"][0]} in pairs


def test_who_has_it_already_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """304 with the same tag, while no candle has closed."""
    server = server_with(filled(), monkeypatch)
    [first] = ask(server, (PATH, {}))
    [again] = ask(server, (PATH, {"if-none-match": first.headers["etag"]}))
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["vary"] == "accept, accept-encoding"


def test_the_same_question_is_answered_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is written; another question is another answer; and only so many are kept."""
    made: list[Any] = []
    real = correlations.graph_of
    monkeypatch.setattr(correlations, "graph_of", lambda *args: made.append(args) or real(*args))
    server = server_with(filled(), monkeypatch)
    ask(server, (PATH, {}), (f"{PATH}?interval=1m&candles=120&least=0.6&most=5", {}), (f"{PATH}?format=csv", {}))
    assert len(made) == 1
    ask(server, *((f"{PATH}?candles={31 + n}", {}) for n in range(correlations.QUESTIONS_MOST)), (PATH, {}))
    assert len(made) == 1 + correlations.QUESTIONS_MOST + 1


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("candles=30", 422),
        ("candles=1001", 422),
        ("interval=2m", 422),
        ("least=nan", 422),
        ("least=1.01", 422),
        ("most=0", 422),
        ("most=51", 422),
        ("symbols=", 422),
        ("symbols=BTCUSDT,,", 422),
        ("symbols=" + "A" * 8001, 422),
        ("limit=3", 422),
        ("symbols=NOTHING", 503),
    ],
)
def test_what_is_out_of_bounds_is_refused(query: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the form of all routes; while candles are read a symbol may still come."""
    [answer] = ask(server_with(filled(), monkeypatch), (f"{PATH}?{query}", {}))
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"status", "expected", "came", "do"}


def test_more_symbols_than_can_be_compared_have_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do; those that are named are answered."""
    store = filled()
    base = orjson.loads(candle(LAST_MS, "1m"))
    put(store, *(orjson.dumps(base | {"s": f"S{number}USDT"}) for number in range(SYMBOLS_MOST)))
    [refused, answered] = ask(server_with(store, monkeypatch), (PATH, {}), (f"{PATH}?symbols=BTCUSDT", {}))
    assert (refused.status_code, answered.status_code) == (422, 200)
    assert refused.json()["error"]["do"] == "name some of them in symbols"


def test_nothing_is_known_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty graph of no time, rather than a fault."""
    [answer] = ask(server_with(CandleStore(10), monkeypatch), (PATH, {}))
    told = answer.json()
    assert (told["time"], told["from"], told["candles_read"]) == (None, None, False)
    assert {tuple(column) for part in ("nodes", "edges") for column in told[part].values()} == {()}
