"""`klinestream up`: what its options make of the configuration, and what it shows."""

import errno
import io
from pathlib import Path

import pytest
from rich.console import Console

from klinestream.cli.up import Exchange, Options, effective
from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config
from klinestream.runtime.server_sections import ServerConfig
from klinestream.stack import plans
from klinestream.stack.checks import ports
from klinestream.stack.extras import EXTRAS, chosen, observed
from klinestream.stack.jobs import Cluster
from klinestream.stack.layout import Layout
from klinestream.stack.meter import Flow
from klinestream.stack.part import State
from klinestream.stack.status import Display, line, table
from klinestream.stack.supervisor import Row, job_outputs

ROWS = (Row("broker", State.UP, 17, 9092, 0, None), Row("producer", State.BACKING_OFF, None, 9108, 3, Flow(1400.4, 0.25)))


def test_the_stand_in_takes_the_exchanges_place() -> None:
    """By default all addresses are the stand-in's, and Kafka is the local broker."""
    config = effective(Config(), Options())
    port = config.stack.standin_port
    assert (config.exchange.websocket_url, config.exchange.rest_url) == (f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
    assert config.kafka.bootstrap_servers == f"127.0.0.1:{config.stack.broker_port}"


def test_the_real_exchange_keeps_its_address() -> None:
    """With --exchange binance the configured addresses hold."""
    assert effective(Config(), Options(Exchange.BINANCE)).exchange == Config().exchange


def test_symbols_are_a_number_or_a_list() -> None:
    """A number is how many the stand-in lists, all followed; a list is followed as it is."""
    counted = effective(Config(), Options(symbols="30"))
    assert (counted.standin.symbols, counted.exchange.symbols) == (30, ("*",))
    assert effective(Config(), Options(symbols="btcusdt, ethusdt")).exchange.symbols == ("BTCUSDT", "ETHUSDT")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(Exchange.BINANCE, symbols="30"), "expected --symbols to be a list"),
        (Options(symbols="0"), "a number from 1 to 5000, got 0"),
        (Options(Exchange.BINANCE, frames=Path()), "--frames needs the stand-in"),
        (Options(frames=Path("nowhere")), "expected a folder of recorded frames at nowhere"),
    ],
)
@pytest.mark.usefixtures("empty_folder")
def test_options_that_contradict_are_refused(options: Options, said: str) -> None:
    """What can't be meant raises ConfigError that says why."""
    with pytest.raises(ConfigError, match=said):
        effective(Config(), options)


def test_further_parts_are_chosen_by_name() -> None:
    """Options may hold several names and repeat them; an unknown one raises ConfigError that lists what there is."""
    assert chosen(["books, trades", "trades"]) == ("trades", "books")
    with pytest.raises(ConfigError, match=r"--with: expected of trades, books, finnhub.*, got ships"):
        chosen(["trades,ships"])


def test_windows_over_trades_bring_their_feed_and_job_and_these_come_first() -> None:
    """With windows.source = "trades" the chart waits for that job: it is submitted before the others, whether or not --with names it."""
    config = Config()
    over_trades = config.model_copy(update={"windows": config.windows.model_copy(update={"source": "trades"})})
    assert chosen(["books"], over_trades) == ("trades", "books")
    assert list(job_outputs(over_trades, ("trades",))) == ["trade_windows", "windows", "candles"]
    assert list(job_outputs(config, ("trades",))) == ["windows", "candles", "trade_windows"]


def test_a_further_part_is_started_watched_and_looked_at(tmp_path: Path) -> None:
    """It has a plan of its own after the topics, a port that has to be free, and the server asks it for /status."""
    config = Config()
    cluster = Cluster("http://127.0.0.1:1")
    found = {plan.name: plan for plan in plans.plans(config, Layout.of(tmp_path), cluster, True, ("trades",))}
    cluster.close()
    assert found["trades"].needs == (plans.TOPICS, "standin")
    assert found["trades"].command().argv[1:] == ("feed", "trades")
    assert ports(config, True, ("trades",))["trades.metrics_port"] == config.trades.metrics_port
    told = plans.with_addresses(config, ("trades",)).server
    assert f"feed-trades=http://127.0.0.1:{config.trades.metrics_port}" in told.observe
    assert ServerConfig.model_validate(told.model_dump()) == told, "the server takes it"
    assert "trades" not in {plan.name for plan in plans.plans(config, Layout.of(tmp_path), cluster, True)}


def test_the_table_shows_every_part_with_its_numbers() -> None:
    """State, process, port, restarts, rate and age of each part, and the chart's address once there is one."""
    console = Console(width=140, file=io.StringIO())
    console.print(table(ROWS, "http://localhost:8084/chart"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    for text in ("broker", "up", "17", "9092", "producer", "restarting", "3", "1,400", "0.2 s", "http://localhost:8084/chart"):
        assert text in shown


def test_the_line_says_the_same() -> None:
    """Where there is no terminal the states and flows are one line."""
    assert line(ROWS) == "broker up, producer restarting (1,400/s, 0.2 s old)"


class FullDisk(io.StringIO):
    """Output that nothing can be written to."""

    def write(self, _: str) -> int:
        """Refuse it."""
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("terminal", [True, False])
def test_what_can_t_be_shown_ends_nothing(terminal: bool) -> None:
    """A terminal that is closed, or a full disk under a log, is no reason for the stack to end."""
    with Display(with_table=True, console=Console(file=FullDisk(), force_terminal=terminal)) as show:
        show.say("it goes on")


@pytest.mark.parametrize("name", EXTRAS)
def test_the_server_may_look_at_each_part_that_is_added(name: str) -> None:
    """What `--with` adds to the names that /status asks is a name that the server takes; otherwise there would be no server."""
    entry = f"{observed(name)}=http://127.0.0.1:9000"
    assert ServerConfig(observe=(entry,)).observed == {observed(name): "http://127.0.0.1:9000"}
