"""The supervisor's start: what it finds in its folder, and what it leaves there. No part is started."""

from collections.abc import Callable
from pathlib import Path

import pytest

from klinestream.market.errors import StackError
from klinestream.runtime.config import Config
from klinestream.stack import held_market, jars
from klinestream.stack.supervisor import Supervisor
from tests.ports import free_ports

PORTS = {"stack": ("broker_port", "controller_port", "flink_port", "flink_rpc_port", "standin_port"), "server": ("port",)}
METRICS = ("producer", "repair", "archive", "proof")


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Start and stop a supervisor over the test's folder: with the stand-in or without, and fresh or not."""
    monkeypatch.setattr(jars, "fetch", lambda *_, **__: None)  # takes seconds
    config = Config()
    for section, keys in (PORTS | dict.fromkeys(METRICS, ("metrics_port",))).items():
        free = dict(zip(keys, free_ports(len(keys)), strict=True))
        config = config.model_copy(update={section: getattr(config, section).model_copy(update=free)})
    config = config.model_copy(update={"stack": config.stack.model_copy(update={"state_dir": tmp_path})})

    def start(with_standin: bool, fresh: bool = False) -> None:
        supervisor = Supervisor(config, with_standin)
        try:
            supervisor.start(fresh)
        finally:
            supervisor.stop()

    return start


def test_a_folder_holds_one_market(started: Callable[..., None], tmp_path: Path) -> None:
    """What holds the stand-in's market refuses the exchange's, and the other way round, until it starts over; the same goes on."""
    started(with_standin=True)
    started(with_standin=True)
    with pytest.raises(
        StackError, match=r"market of the stand-in, .* with https://.*'s: start over with `klinestream up --fresh`, or set stack\.state_dir"
    ):
        started(with_standin=False)
    started(with_standin=False, fresh=True)
    with pytest.raises(StackError, match=r"holds the market of https://.*the stand-in's"):
        started(with_standin=True)
    assert (tmp_path / "market").read_text() == f"{Config().exchange.rest_url}\n"


def test_a_folder_without_a_note_is_taken_as_it_is(tmp_path: Path) -> None:
    """A folder of a time before the notes may hold either market; from then on it holds the one that it was taken for."""
    held_market.keep_to(tmp_path / "market", held_market.STANDIN)
    held_market.keep_to(tmp_path / "market", held_market.STANDIN)
    with pytest.raises(StackError):
        held_market.keep_to(tmp_path / "market", "https://api.example")
