"""What docs/models.md shows runs as it stands."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from klinestream.cli.main import app
from klinestream.models.storage import KINDS
from klinestream.replay.features.labels import Horizon, label_names
from tests.feature_rows import walk, write

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_its_python_runs_over_a_folder_of_features(empty_folder: Path) -> None:
    """Labels are made as the table beside them says; the loader's part needs torch."""
    write(empty_folder / "features", walk(1, 200, symbols=2))
    namespace: dict[str, Any] = {}
    exec(BLOCKS[0], namespace)  # noqa: S102  # our own
    assert {*label_names(Horizon.of("10m", "1m")), "return_1h"} <= set(namespace["labelled"].columns)
    assert all(f"`{name}`" in TEXT for name in label_names(Horizon.of("10m", "1m")))
    if importlib.util.find_spec("torch") is None:
        BLOCKS[1] = BLOCKS[1].replace("from torch.utils.data import DataLoader\n", "").partition("loader =")[0]
    exec(BLOCKS[1], namespace)  # noqa: S102
    assert len(namespace["windows"]) > 0


def test_it_names_every_kind_and_no_command_that_there_is_not() -> None:
    """Each kind has a row; each `klinestream model …` is a command."""
    assert not [kind for kind in KINDS if f"| `{kind}` |" not in TEXT]
    group = next(each for each in app.registered_groups if each.name == "model")
    assert group.typer_instance is not None
    there = {command.callback.__name__ for command in group.typer_instance.registered_commands if command.callback is not None}
    assert set(re.findall(r"klinestream model (\w+)", TEXT)) == there


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:tests|klinestream|notebooks)/[\w./]+)`", TEXT))))
def test_files_that_it_names_are_there(path: str) -> None:
    """No page points to what was moved."""
    assert (Path(__file__).parents[2] / path).is_file()
