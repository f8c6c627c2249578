"""Kinds of models that the extra `ml` trains. `make soak` installs it, and `make test` does without."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from klinestream.market.intervals import MINUTE_MS
from klinestream.models import graph, storage
from klinestream.models.live import Live
from klinestream.models.model import Task
from klinestream.models.offline import forecasts
from klinestream.models.panel import panel_of, task_of
from klinestream.models.storage import Stored, load
from klinestream.models.training import header_of, train, write
from klinestream.replay.features.labels import Horizon
from tests.feature_rows import START_MS, as_records, seeded, walk

pytestmark = pytest.mark.soak

KINDS = ("boosting", "graph")
ROWS = walk(11, 900, symbols=5)
HORIZON = Horizon.of("10m", "1m")


def task(rows: pl.DataFrame) -> Task:
    return task_of(rows, "1m", HORIZON)


def trained(kind: str, rows: pl.DataFrame) -> Stored:
    panel = panel_of(rows, task(rows))
    return Stored.of(header_of(panel, kind), storage.KINDS[kind].train(panel))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_make_the_same_model(kind: str) -> None:
    """Training again gives the same id: the same weights to the last bit; other rows give another one."""
    assert trained(kind, ROWS).id == trained(kind, ROWS).id != trained(kind, ROWS.filter(pl.col("symbol") != "COIN4USDT")).id


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_back_the_model_and_live_equals_offline(kind: str, tmp_path: Path) -> None:
    """To the last bit, however records are put together; and what a row is predicted from doesn't lie after it."""
    stored, measured = train(ROWS, task(ROWS), kind, folds=2)
    write(tmp_path / kind, stored, measured)
    again, records = load(tmp_path / kind), as_records(ROWS)
    assert again.id == stored.id
    right = forecasts(stored, ROWS)
    for size in (1, 333, 5000):
        live = Live(again)
        said = [one for at in range(0, len(records), size) for one in live.take(records[at : at + size])]
        assert sorted((one.symbol, one.open_time_ms, one.prediction, one.probability) for one in said) == right.rows()
    early = pl.col("open_time_ms") < START_MS + 600 * MINUTE_MS
    assert forecasts(stored, ROWS.filter(early)).equals(right.filter(early))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("market", ["walk", "seeded"])
def test_no_skill_is_shown_where_there_is_none(kind: str, market: str, tmp_path: Path) -> None:
    """On random walks the card says so. The stand-in's seeded market has a construction, of which some can be learned: it never pays."""
    rows = ROWS if market == "walk" else seeded(1500, symbols=6)
    stored, measured = train(rows, task(rows), kind, folds=3)
    write(tmp_path / kind, stored, measured)
    card = storage.card(tmp_path / kind)
    assert measured.skill.net_bps[1] < 0
    assert ("**No skill is shown.**" in card) or (market == "seeded" and "doesn't pay for its costs" in card)
    assert card.count("no return, majority sign") == 1 + 3


def test_the_network_that_is_trained_is_the_one_that_forecasts() -> None:
    """JAX and numpy give the same outputs of the same weights, as far as single precision goes."""
    from klinestream.models.graph_training import _forward  # noqa: PLC0415  # the extra may not be installed

    model = trained("graph", ROWS).model
    assert isinstance(model, graph.Graph)
    panel = panel_of(ROWS, task(ROWS))
    inputs = panel.inputs[np.isfinite(panel.inputs).all(axis=(1, 2))]
    by_jax = _forward(model.weights, model.neighbours, model.scale.of(inputs).astype(np.float32))
    own = model.predict(inputs)
    assert own.returns == pytest.approx(np.asarray(by_jax[..., 0]) * model.scale.unit, abs=1e-5 * model.scale.unit)
    assert np.log(own.probabilities / (1 - own.probabilities)) == pytest.approx(np.asarray(by_jax[..., 1]), abs=1e-5)


def test_a_graph_learns_what_a_neighbour_tells() -> None:
    """Where one coin's RSI tells of the other's future, the graph shows skill, and a model that sees its own inputs alone doesn't."""
    made, rows = np.random.default_rng(1), walk(12, 2000, symbols=2)
    panel = panel_of(rows, task(rows))
    told = np.nan_to_num(panel.labels[:, ::-1]) * 2e3 + made.normal(0, 3, panel.labels.shape)
    table = pl.DataFrame(
        {"symbol": np.repeat(panel.symbols, len(panel.opened)), "open_time_ms": np.tile(panel.opened, 2), "told": told.T.ravel()}
    )
    heard = rows.join(table, ["symbol", "open_time_ms"]).with_columns(rsi_14=50 + pl.col("told")).drop("told")
    skills = {kind: train(heard, task(heard), kind, folds=2)[1].skill.shown for kind in ("graph", "linear")}
    assert skills == {"graph": True, "linear": False}
