"""The proof as a part that stays: stretch after stretch, on from where it stopped, and with metrics that tell."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from klinestream.cli.main import app
from klinestream.market.errors import ArchiveError
from klinestream.market.topics import CANDLES, INDICATORS, KLINES, WINDOWS
from klinestream.replay.proof.metrics import ProofMetrics
from klinestream.replay.proof.run import Follower
from klinestream.runtime.config import Config
from tests.property.test_proof_laws import FIRST_MS, LENGTH_MS, STRETCHES, market
from tests.published import archived, published

LATER_MS = FIRST_MS + 3_600_000


def told(metrics: ProofMetrics, name: str) -> float | None:
    labels = {"topic": WINDOWS.name} if name.endswith("_total") and "stretches" not in name else {}
    return metrics.registry.get_sample_value(f"klinestream_replay_{name}", labels)


def test_it_proves_each_stretch_once_it_is_complete_and_goes_on_after_a_restart(tmp_path: Path, configured: Callable[..., Config]) -> None:
    """No stretch before its end and what the archive needs after it; a new process begins where the one before had come to."""
    archived(tmp_path, published(market()))
    config = configured(archive={"url": str(tmp_path)}, proof={"stretch_s": LENGTH_MS // 1000, "after_s": 10})
    first = Follower(config, metrics := ProofMetrics())
    assert not first.step(FIRST_MS + LENGTH_MS + 9_000)
    assert first.step(FIRST_MS + LENGTH_MS + 10_000)
    assert (told(metrics, "equal_total"), told(metrics, "verified_to_seconds")) == (480, (FIRST_MS + LENGTH_MS) / 1000)
    again = Follower(config, metrics := ProofMetrics())
    assert [again.step(LATER_MS) for _ in range(STRETCHES)] == [True] * (STRETCHES - 1) + [False]
    assert (told(metrics, "equal_total"), told(metrics, "different_total"), told(metrics, "stretches_total")) == (
        480 * (STRETCHES - 1),
        0,
        STRETCHES - 1,
    )
    assert again.faults == ()


@contextmanager
def unreadable(files: Iterable[Path]) -> Iterator[None]:
    """The data of these files can't be read, though what they hold can be listed: as if they became one in that very moment."""
    kept = {path: path.read_bytes() for path in files}
    for path, body in kept.items():
        path.write_bytes(body[:4] + bytes(len(body) // 4) + body[4 + len(body) // 4 :])
    yield
    for path, body in kept.items():
        path.write_bytes(body)


@pytest.mark.parametrize("keep", [0, 3])
def test_a_stretch_that_could_not_be_read_is_proved_at_the_next_look(tmp_path: Path, configured: Callable[..., Config], keep: int) -> None:
    """Candles that can't be read after the windows were gone through leave no half of a state, with snapshots and without."""
    archived(tmp_path, published(market()))
    proof = {"stretch_s": LENGTH_MS // 1000, "keep_snapshots": keep}
    follower = Follower(configured(archive={"url": str(tmp_path)}, proof=proof), metrics := ProofMetrics())
    for _ in range(STRETCHES):
        with unreadable((tmp_path / CANDLES.name).rglob("*.parquet")), pytest.raises(ArchiveError, match="can't be read"):
            follower.step(LATER_MS)
        assert follower.step(LATER_MS)
    assert (told(metrics, "equal_total"), told(metrics, "different_total")) == (480 * STRETCHES, 0)


def test_where_an_archive_begins_is_asked_of_the_files_that_count(tmp_path: Path, configured: Callable[..., Config]) -> None:
    """A file that became part of another may go at any moment: it isn't opened. One that can't be read is an ArchiveError."""
    files = archived(tmp_path, published(market()), 120)
    first = next(span for span in files.spans(KLINES.name) if not span.first)
    Path(tmp_path, replace(first, end=5).path).write_bytes(b"gone")
    follower = Follower(configured(archive={"url": str(tmp_path)}, proof={"stretch_s": LENGTH_MS // 1000}), ProofMetrics())
    assert follower.step(LATER_MS)
    with unreadable([tmp_path / first.path]), pytest.raises(ArchiveError, match="can't be read"):
        follower.step(LATER_MS)
    assert follower.step(LATER_MS)
    assert follower.faults == ()


def test_a_difference_is_counted_and_said_and_leaves_no_snapshot(tmp_path: Path, configured: Callable[..., Config]) -> None:
    """What is wrong is a fault of the part, and is found again after a restart."""
    values = published(market())
    key, time_ms, value = values[WINDOWS.name][7]
    values[WINDOWS.name][7] = key, time_ms, orjson.dumps(orjson.loads(value) | {"volume": 1.5})
    archived(tmp_path, values)
    config = configured(archive={"url": str(tmp_path)}, proof={"stretch_s": LENGTH_MS // 1000})
    for follower, metrics in ((Follower(config, metrics), metrics) for metrics in (ProofMetrics(), ProofMetrics())):
        assert follower.step(LATER_MS)
        assert (told(metrics, "different_total"), told(metrics, "differing_stretches")) == (1, 1)
        assert "1 records" in follower.faults[0]


def test_the_command_names_what_differs_and_ends_with_1(tmp_path: Path) -> None:
    """Field, published and replayed; 0 where all is equal."""
    values = published(market())
    archived(tmp_path / "right", values)
    key, time_ms, value = values[WINDOWS.name][7]
    values[WINDOWS.name][7] = key, time_ms, orjson.dumps(orjson.loads(value) | {"volume": 1.5})
    archived(tmp_path / "wrong", values)

    def run(folder: str, *options: str) -> tuple[int, str]:
        env = {"KLINESTREAM_ARCHIVE__URL": str(tmp_path / folder), "KLINESTREAM_PROOF__STRETCH_S": "120", "KLINESTREAM_PROOF__AFTER_S": "0"}
        done = CliRunner().invoke(app, ["verify", "replay", *options], env=env)
        return done.exit_code, done.output

    assert run("right")[0] == 0
    code, output = run("wrong")
    assert code == 1
    assert "volume" in output
    assert "1.5" in output
    code, output = run("wrong", "--json", "--symbols", "BTCUSDT,ETHUSDT")
    [difference] = orjson.loads(output.splitlines()[-1])["stretches"][0]["topics"][WINDOWS.name]["differences"]
    assert (code, difference["field"], difference["published"]) == (1, "volume", "1.5")


def test_a_stretch_waits_for_the_job_that_is_behind(tmp_path: Path, configured: Callable[..., Config]) -> None:
    """While the archive has no candles of its last minutes it isn't looked at: a job that was down brings them later."""
    values = published(market())
    for topic in (CANDLES.name, INDICATORS.name):
        values[topic] = [one for one in values[topic] if one[1] < FIRST_MS + LENGTH_MS]
    archived(tmp_path, values)
    follower = Follower(configured(archive={"url": str(tmp_path)}, proof={"stretch_s": LENGTH_MS // 1000}), ProofMetrics())
    assert [follower.step(LATER_MS) for _ in range(2)] == [True, False]
    assert follower.faults == ()
