"""What docs/indicators.md says of the default indicators is what the code does."""

import functools
import re
from pathlib import Path

import pytest

from klinestream.market.indicators.catalogue import IndicatorSet, IndicatorSettings
from klinestream.market.indicators.protocol import batch
from tests.golden.test_indicators import columns, walk

TEXT = (Path(__file__).parents[2] / "docs" / "indicators.md").read_text()
FOUND = IndicatorSet(IndicatorSettings())
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| `")]


@functools.cache
def first_ready() -> dict[str, int]:
    """After how many candles each value is ready in a run that begins at 10:00."""
    _, ready = batch(FOUND, columns([walk(3, 1000)]))
    return dict(zip(FOUND.names, (ready[:, :, 0].argmax(axis=1) + 1).tolist(), strict=True))


def test_every_value_has_its_row() -> None:
    """The table names the default values, all of them and in their order."""
    assert tuple(name for row in ROWS for name in re.findall("`([^`]+)`", row[0])) == FOUND.names


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].split("`")[1])
def test_readiness_is_as_documented(row: list[str]) -> None:
    """Each value is first ready after as many candles as the table says."""
    names = re.findall("`([^`]+)`", row[0])
    said = [int(number) for number in re.findall(r"\d+", row[3])][: len(names)]
    first = [first_ready()[name] for name in names]
    if names == ["vwap_session"]:
        assert said == [FOUND.ready_after]
        assert first == [14 * 60 + 1]
    else:
        assert first == said


def test_the_state_is_as_high_as_documented() -> None:
    """The page says how many floats a column takes."""
    assert f"State is {FOUND.rows} floats a column" in TEXT
