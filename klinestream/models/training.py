"""From feature rows to a model's folder: evaluate, train on all, write the card."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import polars as pl

from klinestream import __version__
from klinestream.market.errors import ConfigError
from klinestream.models import card
from klinestream.models.evaluation import Evaluation, evaluate, evaluate_trained, require_rows
from klinestream.models.model import Header, Task, data_digest
from klinestream.models.panel import Panel, panel_of
from klinestream.models.storage import KINDS, Stored, save

COST_BPS = 20.0
"""Of buying and selling once: the exchange's 0.1 % taker fee, twice."""
FOLDS = 5

Told = Callable[[str], None]


def train(
    rows: pl.DataFrame, task: Task, kind: str, folds: int = FOLDS, *, told: Told = lambda _: None, features: str = ""
) -> tuple[Stored, Evaluation]:
    """Evaluate models of a kind, then train one on all rows; `features` names their settings. Raises ConfigError."""
    chosen = KINDS[kind]
    panel = panel_of(rows, task)
    require_rows(panel)
    measured = evaluate(panel, chosen.train, folds, COST_BPS, lambda number: told(f"fold {number + 1} of {folds}"))
    told("the model itself, on all rows")
    return Stored.of(header_of(panel, kind, features), chosen.train(panel)), measured


def write(folder: Path, stored: Stored, measured: Evaluation) -> None:
    """Its folder, with its card. Raises ModelError."""
    plain = measured.plain()
    save(folder, stored, card.write(stored, plain), plain)


def header_of(panel: Panel, kind: str, features: str = "") -> Header:
    """What is said of a model that was trained on a panel."""
    known = panel.known
    times = panel.times[known.any(axis=1)]
    versions = {name: version(name) for name in (*KINDS[kind].libraries, "polars")}
    return Header(
        kind=kind,
        task=panel.task,
        symbols=panel.symbols,
        settings=KINDS[kind].settings,
        trained_from_ms=int(times[0]),
        trained_to_ms=int(times[-1]),
        rows=int(known.sum()),
        data=data_digest(panel.inputs[known], panel.labels[known]),
        features=features,
        versions={"klinestream": __version__} | versions,
    )


def evaluate_after(stored: Stored, rows: pl.DataFrame) -> Evaluation:
    """How good a model is on rows after those that it has seen, and their horizon. Raises ConfigError where there are none."""
    header = stored.header
    panel = panel_of(rows, header.task, header.symbols)
    from_ms = header.trained_to_ms + header.task.ahead.span_ms + 1
    if not (panel.known & (panel.times >= from_ms)[:, None]).any():
        raise ConfigError(
            f"expected rows that close at {from_ms} ms or later, after what the model has seen, got none whose horizon is there: "
            "make features of later candles"
        )
    seen = panel.take(panel.times <= header.trained_to_ms)
    # Where the rows begin after the training ended, baselines have nothing else to learn shares from than even odds.
    return evaluate_trained(stored.model, seen, panel, from_ms, COST_BPS)
