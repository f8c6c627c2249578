"""Models: their inputs and arithmetic, what is trained, measured, stored, and said live."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.errors import ConfigError, KlinestreamError, ModelError
from klinestream.market.indicators.catalogue import IndicatorSet, IndicatorSettings
from klinestream.market.intervals import MINUTE_MS
from klinestream.models import graph, linear, scores, storage
from klinestream.models.arithmetic import dense, exp, sigmoid
from klinestream.models.card import verdict
from klinestream.models.evaluation import OWN, Evaluation, evaluate
from klinestream.models.inputs import input_names, model_inputs, usable
from klinestream.models.live import Live
from klinestream.models.model import Forecasts
from klinestream.models.offline import forecasts
from klinestream.models.panel import panel_of, task_of
from klinestream.models.scaling import Scale
from klinestream.models.storage import Stored, load, save
from klinestream.models.training import COST_BPS, evaluate_after, header_of, train, write
from klinestream.replay.features.labels import Horizon
from tests.feature_rows import START_MS, as_records, walk

HORIZON = Horizon.of("10m", "1m")
ROWS = walk(5, 700, symbols=4)
TASK = task_of(ROWS, "1m", HORIZON)


def trained(kind: str = "linear") -> Stored:
    panel = panel_of(ROWS, TASK)
    return Stored.of(header_of(panel, kind), storage.KINDS[kind].train(panel))


def hearing(symbols: int = 4) -> Stored:
    """A graph of made-up weights: each symbol hears the next one, so that two layers reach three."""
    made, panel = np.random.default_rng(2), panel_of(ROWS, TASK)
    sizes = {"own_0": (15, 4), "heard_0": (15, 4), "own_1": (4, 4), "heard_1": (4, 4), "own_out": (4, 2)}
    weights = {name: made.normal(0, 1, size) for name, size in sizes.items()}
    weights |= {"bias_0": made.normal(0, 1, 4), "bias_1": made.normal(0, 1, 4), "bias_out": np.zeros(2)}
    near = np.array([[(place + 1) % symbols] for place in range(symbols)])
    model = graph.Graph(near, Scale.fit(panel.inputs[panel.known], panel.labels[panel.known]), weights)
    return Stored.of(replace(header_of(panel, "linear"), kind="graph"), model)


@given(st.floats(-745, 745))
def test_exp_is_the_exponential_function(x: float) -> None:
    """Within two units in the last place of the C library's; beyond ±700 that of ±700."""
    right = math.exp(min(max(x, -700.0), 700.0))
    assert float(exp(np.array(x))) == pytest.approx(right, rel=2 * math.ulp(1.0), abs=0)


def test_a_probability_is_one_and_what_is_unknown_stays_unknown() -> None:
    """From 0 to 1, half at 0, symmetric; nan stays nan."""
    found = sigmoid(np.array([-800.0, -1.0, 0.0, 1.0, 800.0, np.nan]))
    assert found[:5].tolist() == pytest.approx([0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1])
    assert np.isnan(found[5])


@given(st.integers(1, 50), st.integers(0, 2**32))
def test_a_row_gets_the_same_bits_in_any_company(rows: int, seed: int) -> None:
    """A product and a model's forecast of one row are those of many, to the last bit."""
    made = np.random.default_rng(seed)
    x, weights, bias = made.normal(size=(rows, 15)), made.normal(size=(15, 3)), made.normal(size=3)
    together = dense(x, weights, bias)
    assert all(np.array_equal(dense(x[[row]], weights, bias)[0], together[row]) for row in range(rows))


def test_inputs_have_no_scale() -> None:
    """A market whose prices are a thousand times as high (a power of two, so exactly) gives the same inputs."""
    names = usable(IndicatorSet(IndicatorSettings()).names)
    rows = ROWS.filter(symbol="COIN0USDT").tail(100)
    close, values = rows["close"].to_numpy(), rows.select(names).to_numpy()
    scaled = [name.split("_")[0] not in ("rsi", "stochastic", "volatility") for name in names]
    assert np.array_equal(model_inputs(names, close, values), model_inputs(names, close * 1024, np.where(scaled, values * 1024, values)))
    assert not {"obv", "vwap_session", "bollinger_middle_20_2"} & set(names)
    with pytest.raises(ConfigError, match="got obv"):
        input_names(["obv"])


def test_forecasts_offline_are_those_of_records_live() -> None:
    """To the last bit, whatever company and order records come in; with unready ones, and other symbols and intervals among them."""
    records = as_records(ROWS)
    other = [replace(records[-1], symbol="OTHERUSDT"), replace(records[-1], interval="5m")]
    for stored in (trained(), hearing()):
        live, said = Live(stored), []
        at = 0
        for size in (1, 7, 4, 400, 1, 1000, 5000):
            said += live.take([*records[at : at + size], *other])
            at += size
        right = forecasts(stored, ROWS)
        found = sorted((one.symbol, one.open_time_ms, one.prediction, one.probability) for one in said)
        assert found == right.rows()
        assert live.counts.other == 14
        assert live.counts.unready == len(records) - len(found) > 0
        assert {one.model for one in said} == {stored.id}


def test_a_forecast_that_hears_others_waits_for_them_and_is_said_again_when_one_is_replaced() -> None:
    """Nothing is said of half a neighbourhood; a higher revision or an earlier since gives another identity, a repeat nothing."""
    stored, moment = hearing(), [one for one in as_records(ROWS) if one.open_time_ms == START_MS + 600 * MINUTE_MS]
    live = Live(stored)
    assert live.take(moment[:2]) == []
    assert [one.symbol for one in live.take(moment[2:3])] == ["COIN0USDT"]
    assert [one.symbol for one in live.take(moment[3:])] == ["COIN1USDT", "COIN2USDT", "COIN3USDT"]
    assert live.take(moment) == []
    repaired = replace(moment[1], revision=9, close=moment[1].close * 1.01)
    again = live.take([repaired])
    assert [(one.symbol, one.revision) for one in again] == [("COIN0USDT", 9), ("COIN1USDT", 9), ("COIN3USDT", 9)]
    assert live.take([moment[1]]) == []
    longer = live.take([replace(repaired, since_ms=repaired.since_ms - MINUTE_MS)])
    assert len({(one.symbol, one.inputs) for one in again + longer}) == 6
    assert live.counts.replaced == 5


def test_what_is_held_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest moments go once something was said of them; a record of one of them counts as late."""
    monkeypatch.setattr("klinestream.models.live.HELD_MOST", 100)
    live, records = Live(hearing()), [one for one in as_records(ROWS) if not one.unready]
    assert len(live.take(records)) == len(records)
    assert len(live) == 100
    assert live.take([replace(one, revision=1) for one in records[:3]]) == []
    assert (len(live), live.counts.late) == (100, 3)


def test_knowing_nothing_is_called_so() -> None:
    """On random walks no skill is shown; the card says it plainly, with spans, symbols, inputs, settings, baselines by fold, and costs."""
    stored, measured = train(ROWS, TASK, "linear", folds=2)
    plain = measured.plain()
    assert not plain["skill_shown"]
    assert not plain["pays_after_costs"]
    assert "No skill is shown" in verdict(plain)
    assert set(plain["scores"]) == {"model", "zero", "last_return", "momentum"}
    assert len(plain["folds"]) == 2
    assert stored.header.symbols == ("COIN0USDT", "COIN1USDT", "COIN2USDT", "COIN3USDT")


def foretold(noise: float) -> pl.DataFrame:
    """Rows whose RSI tells of the next ten minutes' return, with noise."""
    panel, made = panel_of(ROWS, TASK), np.random.default_rng(3)
    rows = pl.DataFrame({"symbol": np.repeat(panel.symbols, len(panel.opened)), "open_time_ms": np.tile(panel.opened, len(panel.symbols))})
    told = np.nan_to_num(panel.labels.T.ravel()) * 1e4 + made.normal(0, noise, rows.height)
    return ROWS.join(rows.with_columns(told=told), ["symbol", "open_time_ms"]).with_columns(rsi_14=50 + pl.col("told")).drop("told")


def test_skill_that_is_there_is_found() -> None:
    """Where an indicator tells of the future, R² and the Brier score show it, and by how much; costs are taken off."""
    measured = evaluate(panel_of(foretold(20.0), TASK), linear.train, 2, COST_BPS).plain()
    own, zero = measured["scores"]["model"], measured["scores"]["zero"]
    assert measured["skill_shown"]
    assert own["r_squared"] > 0.5
    assert own["brier"] < zero["brier"]
    assert own["accuracy"] > 0.75
    assert own["net_bps"] == pytest.approx(own["gross_bps"] - COST_BPS)
    assert "skill is shown" in verdict(measured)


def test_scores_are_those_of_a_plain_count() -> None:
    """Of three forecasts, by hand; the one whose return is zero has no sign."""
    labels = np.array([[0.01, -0.02], [0.0, np.nan]])
    said = Forecasts(np.array([[0.02, 0.01], [-0.01, 0.5]]), np.array([[0.9, 0.6], [0.2, 0.5]]))
    found = scores.all_scores({OWN: scores.Sums.of(said, labels, np.isfinite(labels))}, 20.0)[OWN]
    assert found["accuracy"] == pytest.approx(1 / 2)
    assert found["brier"] == pytest.approx((0.1**2 + 0.6**2) / 2)
    assert found["r_squared"] == pytest.approx(1 - (0.01**2 + 0.03**2 + 0.01**2) / (0.01**2 + 0.02**2))
    assert found["gross_bps"] == pytest.approx((0.01 - 0.02 - 0.0) / 3 * 1e4)
    assert found["net_bps"] == pytest.approx(found["gross_bps"] - 20)


def test_intervals_hold_what_they_should() -> None:
    """Of 60 series without skill whose labels overlap, at most one in ten seems to have some: the level is 2.5 % on each side."""
    seeming = 0
    for seed in range(60):
        made = np.random.default_rng(seed)
        steps = made.normal(0, 1e-3, (400, 1))
        labels = np.concatenate([steps[at : at + 10].sum(axis=0)[None] for at in range(391)])
        said = Forecasts(made.normal(0, 1e-4) + np.zeros(labels.shape), np.full(labels.shape, 0.5))
        own = scores.Sums.of(said, labels, np.isfinite(labels))
        found = scores.skill(own, own, 10, 0.0)
        seeming += found.r_squared[0] > 0
    assert seeming <= 6


def test_a_folder_gives_back_the_model(tmp_path: Path) -> None:
    """The same id and the same bits; training it again gives the same id; each file is checked, and nothing in it is run."""
    stored, measured = train(ROWS, TASK, "linear", folds=2)
    write(tmp_path / "model", stored, measured)
    again = load(tmp_path / "model")
    assert again.id == stored.id == train(ROWS, TASK, "linear", folds=2)[0].id
    assert forecasts(again, ROWS).equals(forecasts(stored, ROWS))
    assert stored.id in storage.card(tmp_path / "model")
    assert orjson.loads((tmp_path / "model" / "metrics.json").read_bytes()) == orjson.loads(orjson.dumps(measured.plain()))
    assert not list(tmp_path.glob("*.aside"))
    heard = hearing()
    save(tmp_path / "graph", heard, "", {})
    assert forecasts(load(tmp_path / "graph"), ROWS).equals(forecasts(heard, ROWS))


def spoil(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("weights.json", lambda text: text.replace(b"1", b"2", 1), "isn't what was written"),
        ("model.json", lambda text: text.replace(b'"10m"', b'"20m"'), "was changed since"),
        ("model.json", lambda text: text.replace(b'"linear"', b'"other"'), "a kind of linear"),
        ("model.json", lambda _: b"[]", "expected a JSON object"),
        ("model.json", lambda _: b"{", "expected JSON"),
        ("model.json", lambda _: b'{"format": 1, "kind": "linear"}', "KeyError"),
    ],
)
def test_a_folder_that_was_changed_is_refused(tmp_path: Path, name: str, change: Callable[[bytes], bytes], said: str) -> None:
    """With what isn't right."""
    save(tmp_path / "model", trained(), "", {})
    spoil(tmp_path / "model", name, change)
    with pytest.raises(ModelError, match=said):
        load(tmp_path / "model")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: load(folder / "none"), "make one with `klinestream model train`"),
        (lambda folder: save(folder, trained(), "", {}), "choose another --out"),
        (lambda _: train(ROWS.head(50), TASK, "linear"), "500 rows or more"),
        (lambda _: task_of(ROWS.select("symbol", "close"), "1m", HORIZON), "columns of indicators"),
        (lambda _: panel_of(ROWS.drop("rsi_14"), TASK), "but rsi_14 aren't there"),
        (lambda _: evaluate_after(trained(), ROWS), "after what the model has seen"),
        (lambda _: hearing().model.predict(np.zeros((1, 3, 15))), "the model's 4 symbols"),
        (lambda _: graph.train(panel_of(ROWS.filter(symbol="COIN0USDT"), TASK)), "from 2 to 2000 symbols"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    """With a message that says what was expected, what came and what to do."""
    with pytest.raises(KlinestreamError, match=said):
        make(tmp_path)


def test_later_rows_measure_a_trained_model() -> None:
    """Only rows after those that it has seen, and their horizon, count."""
    early = ROWS.filter(pl.col("open_time_ms") < START_MS + 500 * MINUTE_MS)
    stored = Stored.of(header_of(panel_of(early, TASK), "linear"), linear.train(panel_of(early, TASK)))
    measured: Evaluation = evaluate_after(stored, ROWS)
    fold = measured.folds[0]
    assert fold.from_ms > stored.header.trained_to_ms + HORIZON.span_ms
    assert measured.tested_rows == 4 * (700 - 500 - 10)


def test_neighbours_are_the_most_correlated() -> None:
    """Of two pairs of symbols that move together each hears its other one."""
    rows = walk(9, 300, symbols=2)
    twins = pl.concat([rows, rows.with_columns(symbol=pl.col("symbol").str.replace("COIN", "TWIN"), close=pl.col("close") * 2)])
    near = graph.neighbours(panel_of(twins, TASK), 1)
    assert near.ravel().tolist() == [2, 3, 0, 1]
