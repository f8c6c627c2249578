"""What all tests share: a real broker, a real Flink cluster, and configurations that point at them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from klinestream.runtime import config as configuration
from tests.stack import TestBroker, TestFlink, broker_with_topics, running

# No test asserts a speed, those of hypothesis included. The same examples wherever they run: a change that breaks a law is to fail at
# once, and one that doesn't never; `make soak` looks for new ones. The other health checks don't hang on the machine: they stay.
hypothesis.settings.register_profile(
    "klinestream",
    deadline=None,
    derandomize="HYPOTHESIS_NEW" not in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("klinestream")

# Brokers and clusters live for seconds here: the optimising compiler would take a third of all processor time and never pay.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBroker]:
    """A real Kafka broker for the whole run. A test that kills it starts it again; topics of a test have names of their own."""
    with running(TestBroker(tmp_path_factory.mktemp("broker"))) as started:
        yield started


@pytest.fixture(scope="session")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestFlink]:
    """A real Flink cluster for the whole run. A test cancels its jobs, and starts again what it kills."""
    with running(TestFlink(tmp_path_factory.mktemp("flink"))) as started:
        yield started


@pytest.fixture(scope="module")
def module_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBroker]:
    """A broker of a module's own, with every topic: for tests of parts that follow whatever the topics hold."""
    with broker_with_topics(tmp_path_factory.mktemp("module-broker")) as started:
        yield started


@pytest.fixture
def job_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBroker]:
    """A broker of the test's own, with every topic: the job's topics have fixed names."""
    with broker_with_topics(tmp_path_factory.mktemp("job-broker")) as started:
        yield started


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
