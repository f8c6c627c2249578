"""Logs: one form for our events and those of libraries."""

import json
import logging
import time
from collections.abc import Iterator

import pytest
import structlog

from klinestream.runtime.log import setup
from klinestream.runtime.sections import LogConfig


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_is_a_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON, each event is one line with time, level, phrase and fields; an exception is part of it."""
    setup(LogConfig(format="json"))
    structlog.get_logger().info("klines missing", symbol="BTCUSDT", seconds=3, frame=b"\xff")
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("broken")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {"level": "info", "event": "klines missing", "symbol": "BTCUSDT", "seconds": 3, "frame": "b'\\xff'"}
    assert second["exception"][0]["exc_type"] == "ValueError"


def test_console_is_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    """On the console, an event is a phrase with key=value."""
    setup(LogConfig(format="console"))
    structlog.get_logger().warning("klines missing", seconds=3)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "klines missing" in printed.err
    assert "seconds=3" in printed.err


def test_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the configured level nothing is written, ours or a library's."""
    setup(LogConfig(level="warning", format="json"))
    structlog.get_logger().info("quiet")
    logging.getLogger("some.library").info("quiet")
    assert capsys.readouterr().err == ""


def test_libraries_take_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    """What a library logs through the standard library comes out as an event too."""
    setup(LogConfig(format="json"))
    logging.getLogger("some.library").warning("lost %s", "it")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "lost it"


def test_a_library_that_repeats_itself_is_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    """The same line of Kafka's client is written once in ten seconds."""
    setup(LogConfig(format="json"))
    for number in range(50):
        logging.getLogger("kafka.net").error("connection %d failed", number)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_clock_that_is_set_back_silences_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds later by the monotonic clock the line is written again, though the clock on the wall says that it is earlier."""
    setup(LogConfig(format="json"))
    before_s, wall_s = time.monotonic(), time.time()
    for passed_s, set_back_s in ((0, 0), (11, 3600)):
        monkeypatch.setattr(time, "monotonic", lambda now=before_s + passed_s: now)
        monkeypatch.setattr(time, "time", lambda now=wall_s - set_back_s: now)
        logging.getLogger("kafka.net").error("connection failed")
    monkeypatch.undo()
    assert len(capsys.readouterr().err.splitlines()) == 2
