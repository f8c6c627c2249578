"""Notebooks run as they stand, and hold nothing of the machine on which they were written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from plotly.graph_objects import Figure

from klinestream.market.intervals import MINUTE_MS
from tests.feature_rows import START_MS, rows_of, walk, write

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def run(path: Path, **variables: str) -> dict[str, Any]:
    """All cells, one after the other, in one namespace; what is left in it."""
    namespace: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), path.name, "exec"), namespace)  # noqa: S102  # our own
    return namespace


def joined(seed: int, together: bool) -> pl.DataFrame:
    """Rows whose volume follows how far the price moves, or doesn't."""
    made, minutes, prices = np.random.default_rng(seed), 600, {}
    for name in ("AUSDT", "BUSDT"):
        wild = np.exp(np.repeat(made.normal(0, 1, minutes // 60), 60))
        close = 100 * np.exp(np.cumsum(made.normal(0, 1e-3, minutes) * wild))
        volume = 50 * (wild if together else 1.0) * made.gamma(8.0, 1 / 8, minutes)
        prices[name] = np.column_stack([close, close, close, close, volume]).tolist()
    return rows_of([START_MS + minute * MINUTE_MS for minute in range(minutes)], prices)


@pytest.mark.parametrize(("together", "word"), [(True, "Yes: of 2 symbols"), (False, "Hardly: of 2 symbols")])
def test_volume_and_volatility(tmp_path: Path, together: bool, word: str) -> None:
    """The answer is yes where volume follows volatility, and hardly where it doesn't; both pictures are drawn."""
    write(tmp_path / "features", joined(4, together))
    left = run(FOLDER / "volume_and_volatility.ipynb", FEATURES=str(tmp_path / "features"))
    assert left["answer"].startswith(word), left["answer"]
    assert all(isinstance(left[name], Figure) and left[name].data for name in ("correlations", "by_tenth"))
    ranks = left["pairs"].filter(symbol="AUSDT").select(pl.col("volume", "volatility").rank())
    right = np.corrcoef(ranks["volume"], ranks["volatility"])[0, 1]
    assert left["together"].filter(symbol="AUSDT")["same candle"][0] == pytest.approx(right)


def test_a_hole_is_not_taken_for_later(tmp_path: Path) -> None:
    """Where candles lack, nothing is said of 20 candles later."""
    rows = walk(2, 200, symbols=1).filter(pl.col("open_time_ms") != START_MS + 100 * MINUTE_MS)
    write(tmp_path / "features", rows)
    pairs = run(FOLDER / "volume_and_volatility.ipynb", FEATURES=str(tmp_path / "features"))["pairs"]
    assert pairs["later"].null_count() == 20 + 20


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_nothing_of_a_machine_is_stored(path: Path) -> None:
    """No outputs, no counts of runs, no paths but relative ones."""
    found = json.loads(path.read_text())
    cells = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert not [line for cell in found["cells"] for line in cell["source"] if '"/' in line or "/home/" in line]
