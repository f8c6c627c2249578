"""`klinestream model …`, as somebody types it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from klinestream.cli.main import app
from klinestream.market.errors import KlinestreamError
from klinestream.market.intervals import MINUTE_MS
from tests.feature_rows import START_MS, walk, write

ROWS = walk(5, 700, symbols=4)


@pytest.fixture
def features(empty_folder: Path) -> Path:
    write(empty_folder / "features", ROWS.filter(ROWS["open_time_ms"] < START_MS + 650 * MINUTE_MS))
    write(empty_folder / "later", ROWS)
    return empty_folder / "features"


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["model", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_model_is_trained_measured_and_shown(features: Path) -> None:
    """Its folder holds a card with spans, symbols, inputs, fingerprints and every fold; later rows measure it again."""
    folder = features.parent / "model"
    said = run("train", "--features", features, "--kind", "linear", "--folds", "2", "--out", folder).stdout
    assert "No skill is shown" in said
    card = run("card", "--model", folder).stdout
    wanted = ("No skill is shown", "COIN3USDT", "rsi_14_centred", "settings made for tests, as of live", "penalty", "20 bp", "not good for")
    assert not [text for text in wanted if text not in card]
    assert card.count("momentum (five horizons)") == 1 + 2
    assert "no return, majority sign" in run("evaluate", "--model", folder, "--features", features.parent / "later").stdout


def test_a_published_model_is_whole_and_changes_in_one_step(features: Path) -> None:
    """The current one is a copy of what was given; again changes nothing; another one takes its place, and the oldest make room; what
    is no link of ours, or was changed since, is never taken for a model."""
    folder, to = features.parent, features.parent / "published"
    for number, folds in ((1, 1), (2, 2), (3, 3)):
        model = folder / f"model{number}"
        horizon = f"{10 * folds}m"
        run("train", "--features", features, "--kind", "linear", "--folds", 1, "--horizon", horizon, "--out", model)
        kept = run("train", "--features", features, "--kind", "linear", "--folds", 1, "--horizon", horizon, "--out", model, "--keep")
        assert "already" in kept.stdout
        assert "is current:" in run("publish", "--model", model, "--to", to, "--keep", 2).stdout
        assert "is current already" in run("publish", "--model", model, "--to", to, "--keep", 2).stdout
        current = {path.name: path.read_bytes() for path in (to / "current").iterdir()}
        assert current == {path.name: path.read_bytes() for path in model.iterdir()}
        assert len(list((to / "versions").iterdir())) == min(number, 2)
    with pytest.raises(KlinestreamError, match="holds a linear model of another task"):
        run("train", "--features", features, "--kind", "linear", "--horizon", "10m", "--out", folder / "model3", "--keep")
    weights = next(path for path in (to / "current").iterdir() if path.name not in {"model.json", "card.md", "metrics.json"})
    weights.write_bytes(b"changed")
    run("publish", "--model", folder / "model3", "--to", to)
    assert weights.read_bytes() == (folder / "model3" / weights.name).read_bytes()
    (folder / "own" / "current").mkdir(parents=True)
    with pytest.raises(KlinestreamError, match="to be a link"):
        run("publish", "--model", folder / "model3", "--to", folder / "own")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--features", "features", "--kind", "forest", "--out", "m"), "--kind: expected one of linear"),
        (("train", "--features", "none", "--out", "m"), "found no _features.json in none"),
        (("train", "--features", "features", "--out", "features"), "isn't there yet"),
        (("train", "--features", "features", "--interval", "5m", "--out", "m"), "candles of 5m in features, found none"),
        (("train", "--features", "features", "--horizon", "90s", "--out", "m"), "horizon: expected a multiple"),
        (("train", "--features", "half", "--out", "m"), "aren't finished"),
        (("card", "--model", "features"), "model train"),
        (("evaluate", "--model", "features", "--features", "features"), "model train"),
        (("serve", "--model", "features"), "model train"),
        (("serve", "--model", "features", "--from", "yesterday"), "expected a time such as"),
    ],
)
def test_what_cannot_be_is_refused(features: Path, arguments: tuple[str, ...], said: str) -> None:
    """With a message that says what to do."""
    half = features.parent / "half"
    half.mkdir()
    (half / "_features.json").write_bytes((features / "_features.json").read_bytes().replace(b"true", b"false"))
    with pytest.raises(KlinestreamError, match=said):
        run(*arguments)
