"""The configuration read again: what is applied, what needs a restart, what is refused."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest
from pydantic import SecretStr

from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config, load, read_again
from klinestream.runtime.signals import ended_by_signals, told_of_hangups
from producer.metrics import Metrics
from producer.reload import Reloader, change, with_former_connections
from tests.eventually import eventually

SOON_S = 10.0
Configured = Callable[..., Config]


def test_keys_are_applied_or_need_a_restart(configured: Configured) -> None:
    """What can change at once does, with all else as it was; every other changed key of the producer is named, and its value stays."""
    former = configured()
    read = configured(
        exchange={"symbols": ["*"], "weight_per_minute": 3000},
        producer={"hold_s": 5.0, "session_s": 60.0, "metrics_port": 1, "name": "other"},
        kafka={"bootstrap_servers": "elsewhere:9092", "sasl_password": SecretStr("secret")},
        server={"port": 1},
    )
    found = change(former, read)
    assert found.applied == ("exchange.symbols", "producer.hold_s", "producer.session_s")
    assert found.restart == (
        "exchange.weight_per_minute",
        "kafka.bootstrap_servers",
        "kafka.sasl_password",
        "producer.metrics_port",
        "producer.name",
    )
    assert (found.config.exchange.symbols, found.config.producer.hold_s, found.config.producer.session_s) == (("*",), 5.0, 60.0)
    assert found.config.kafka == former.kafka
    assert (found.config.producer.name, found.config.exchange.weight_per_minute) == ("", 6000)
    # What needed a restart is told again the next time.
    assert change(found.config, read).restart == found.restart


def test_the_same_again_changes_nothing_but_reads_files_anew(configured: Configured) -> None:
    """Without a changed key none is named; the lists' files are to be read again all the same."""
    former = configured(exchange={"symbols_file": "list.txt"})
    found = change(former, configured(exchange={"symbols_file": "list.txt"}))
    assert (found.applied, found.restart) == ((), ())
    assert found.config == former
    assert found.config.exchange is not former.exchange


@pytest.mark.parametrize("exchange", [{"websocket_url": "ws://127.0.0.1:1"}, {"rest_url": "http://127.0.0.1:1"}])
def test_a_stand_in_never_takes_the_exchange_s_place(configured: Configured, exchange: dict[str, str]) -> None:
    """An address of the other kind is refused: two markets' klines would mix in one topic."""
    with pytest.raises(ConfigError, match=next(iter(exchange))):
        change(configured(), configured(exchange=exchange))


def test_connections_may_stay_as_they_were(configured: Configured) -> None:
    """Where connections could not be renewed, only their keys have their former values."""
    former = configured()
    read = configured(exchange={"websocket_url": "wss://other.example", "symbols": ["*"]}, producer={"session_s": 60.0, "hold_s": 5.0})
    left = with_former_connections(change(former, read).config, former)
    assert (left.exchange.websocket_url, left.producer.session_s) == (former.exchange.websocket_url, former.producer.session_s)
    assert (left.exchange.symbols, left.producer.hold_s) == (("*",), 5.0)
    assert change(left, read).applied == ("exchange.websocket_url", "producer.session_s")


def test_the_same_file_and_environment_are_read_again(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in file and environment now counts; a file that is gone is an error, not a return to the defaults."""
    file = empty_folder / "mine.toml"
    file.write_text("[producer]\nhold_s = 2.0\n")
    config = load(file)
    file.write_text("[producer]\nhold_s = 4.0\n")
    monkeypatch.setenv("KLINESTREAM_PRODUCER__STALL_S", "7")
    again = read_again(config)
    assert (again.producer.hold_s, again.producer.stall_s) == (4.0, 7.0)
    file.unlink()
    with pytest.raises(ConfigError, match="expected a configuration file"):
        read_again(again)


def test_a_file_in_the_folder_may_come_later(empty_folder: Path) -> None:
    """Without a file at the start, klinestream.toml counts as soon as it is there."""
    config = load()
    (empty_folder / "klinestream.toml").write_text("[producer]\nhold_s = 4.0\n")
    assert read_again(config).producer.hold_s == 4.0


class Reloading:
    """A reloader, what it reads, and what it applied."""

    def __init__(self, config: Config) -> None:
        self.asked: SimpleQueue[bool] = SimpleQueue()
        self.metrics = Metrics()
        self.failures: SimpleQueue[Exception] = SimpleQueue()
        self.reads: list[Config | Exception] = []
        self.applied: list[Config] = []
        self.renews = True
        self.thread = Reloader(config, self.asked, self._read, lambda _: None, self._apply, metrics=self.metrics, failures=self.failures)

    def _read(self) -> Config:
        found = self.reads.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def _apply(self, config: Config) -> bool:
        self.applied.append(config)
        return self.renews

    def hang_up(self, read: Config | Exception, outcome: str) -> None:
        """Ask for what is to be read, and wait until that is over."""
        before = self.metrics.registry.get_sample_value("klinestream_producer_reloads_total", {"outcome": outcome}) or 0
        self.reads.append(read)
        self.asked.put(True)

        def over() -> bool:
            return self.metrics.registry.get_sample_value("klinestream_producer_reloads_total", {"outcome": outcome}) == before + 1

        eventually(over, SOON_S, outcome)


def test_a_faulty_configuration_changes_nothing(configured: Configured) -> None:
    """It is refused and counted, the thread goes on; connections that could not be renewed are tried again by the next one."""
    reloading = Reloading(configured())
    reloading.thread.start()
    try:
        reloading.hang_up(ConfigError("producer.hold_s: no number"), "refused")
        assert not reloading.applied
        reloading.renews = False
        other = configured(producer={"session_s": 60.0})
        reloading.hang_up(other, "without_connections")
        reloading.renews = True
        reloading.hang_up(other, "applied")
        assert [config.producer.session_s for config in reloading.applied] == [60.0, 60.0]
    finally:
        reloading.thread.stop()
        reloading.thread.join(SOON_S)
    assert not reloading.thread.is_alive()
    assert reloading.failures.empty()


def test_hangups_are_told_and_end_nothing() -> None:
    """Many that nobody has taken yet are one; SIGTERM ends the block as before, and afterwards the former handlers hold."""
    former = signal.getsignal(signal.SIGHUP)
    went_on = False
    with ended_by_signals(), told_of_hangups() as hangups:
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
        assert hangups.get(timeout=SOON_S)
        with pytest.raises(Empty):
            hangups.get_nowait()
        went_on = True
        os.kill(os.getpid(), signal.SIGTERM)
        hangups.get(timeout=SOON_S)
    assert went_on
    assert signal.getsignal(signal.SIGHUP) is former


def test_a_terminal_that_is_gone_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP from a terminal that was closed ends the block as SIGTERM does; nobody would be left to end it."""
    terminal = iter([True, False])
    monkeypatch.setattr("os.isatty", lambda _: next(terminal))
    went_on = False
    with ended_by_signals(), told_of_hangups() as hangups:
        signal.raise_signal(signal.SIGHUP)
        hangups.get(timeout=SOON_S)
        went_on = True
    assert not went_on
