"""What all tests share: a real broker, a real Flink cluster, and configurations that point at them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from klinestream.runtime import config as configuration
from tests.stack import TestBroker, TestFlink
from tests.topics import create_all

# No test asserts a speed, those of hypothesis included.
hypothesis.settings.register_profile("klinestream", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("klinestream")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBroker]:
    """A real Kafka broker for the whole run. A test that kills it starts it again; topics of a test have names of their own."""
    started = TestBroker(tmp_path_factory.mktemp("broker"))
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestFlink]:
    """A real Flink cluster for the whole run. A test cancels its jobs, and starts again what it kills."""
    started = TestFlink(tmp_path_factory.mktemp("flink"))
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture
def job_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBroker]:
    """A broker of the test's own: the job's topics have fixed names."""
    broker = TestBroker(tmp_path_factory.mktemp("job-broker"))
    broker.start()
    create_all(broker.bootstrap_servers)
    yield broker
    broker.stop()


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, without a configuration file, and no variable of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for variable in list(os.environ):
        if variable.startswith(configuration.PREFIX):
            monkeypatch.delenv(variable)
    return tmp_path


@pytest.fixture
def configured(empty_folder: Path) -> Callable[..., configuration.Config]:
    """`configured(kafka={"bootstrap_servers": …}, …)`: the defaults, and these tables over them; nothing of the machine's."""
    assert empty_folder.is_dir()

    def load(**tables: dict[str, Any]) -> configuration.Config:
        return configuration.load(None, **tables)

    return load
