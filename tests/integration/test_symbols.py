"""Symbols chosen at run time: the control topic on a real broker, the thread that follows it, and the command."""

import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from klinestream.market.errors import BrokerError, DeliveryError
from klinestream.market.events import SymbolChoice
from klinestream.market.topics import CONTROL
from klinestream.runtime import config as configuration
from klinestream.runtime.config import Config
from klinestream.runtime.control import ControlLog, Said
from klinestream.runtime.kafka import Record
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.topic_admin import TopicAdmin
from klinestream.stack.java import scripts
from producer.wanted import Wanted
from tests import topics
from tests.eventually import eventually
from tests.integration.running_standin import RunningStandin, market, running
from tests.integration.small_exchange import SmallExchange
from tests.stack import TestBroker

SOON_S = 15.0
NOW_MS = 1_700_000_000_000


class Listing(SmallExchange):
    """An exchange whose list of symbols the test changes."""

    def __init__(self, **statuses: str) -> None:
        """These symbols, with their statuses."""
        self.listed: Mapping[str, str] = statuses
        self.times_listed = 0
        super().__init__()

    def _rest(self, connection: ServerConnection, request: Request) -> Response | None:
        if not request.path.startswith("/api/v3/exchangeInfo"):
            return super()._rest(connection, request)
        self.times_listed += 1
        body = orjson.dumps({"symbols": [{"symbol": name, "status": status} for name, status in self.listed.items()]})
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(HTTPStatus.OK, "OK", headers, body)


class Following:
    """What `changed` was called with, and what that adds up to."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.symbols: set[str] = set()
        self.reasons: list[dict[str, str]] = []
        self.fails = 0

    def __call__(self, added: list[str], removed: list[str], reasons: dict[str, str]) -> None:
        """As `Wanted` calls it."""
        if self.fails:
            self.fails -= 1
            raise DeliveryError("not now")
        assert added == sorted(set(added) - self.symbols)
        assert set(removed) <= self.symbols
        assert reasons.keys() == {*added, *removed}
        self.reasons.append(reasons)
        self.symbols = (self.symbols | set(added)) - set(removed)  # last: tests wait for it


def kafka(broker: TestBroker, client: str = "confluent-kafka") -> KafkaConfig:
    return topics.kafka(broker.bootstrap_servers).model_copy(update={"client": client})


def make(broker: TestBroker, name: str) -> str:
    """A control topic of the test's own."""
    with TopicAdmin(kafka(broker)) as admin:
        admin.create([replace(CONTROL, name=name)])
    return name


@contextmanager
def wanted(broker: TestBroker, topic: str, exchange: SmallExchange, following: Following, **keys: Any) -> Iterator[Wanted]:
    """The thread, ended in the end; nothing must have gone to its failures."""
    config = Config(
        kafka=kafka(broker),
        exchange=configuration.ExchangeConfig(rest_url=exchange.tables["rest_url"], **keys),
        producer=configuration.ProducerConfig(backoff_first_s=0.05, backoff_most_s=0.2),
    )
    failures: SimpleQueue[Exception] = SimpleQueue()
    thread = Wanted(config, following, failures, control=ControlLog(config.kafka, topic))
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
        thread.join(SOON_S)
        assert not thread.is_alive()
        assert failures.empty()


@pytest.fixture
def exchange() -> Iterator[Callable[..., Listing]]:
    """`exchange(BTCUSDT="TRADING", …)` serves until the test ends."""
    started: list[Listing] = []

    def start(**statuses: str) -> Listing:
        started.append(Listing(**statuses))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"])
def test_the_newest_word_of_a_name_counts(broker: TestBroker, client: str) -> None:
    """Said twice the last one holds, withdrawn there is none; another reader sees the same, and afterwards only what is new."""
    topic = make(broker, f"control-{client}")
    times = iter(range(NOW_MS, NOW_MS + 100))
    with ControlLog(kafka(broker, client), topic, lambda: next(times)) as control, ControlLog(kafka(broker, client), topic) as other:
        assert control.read() == {}
        control.say("BTCUSDT", wanted=True, by="test")
        control.say("*币*", wanted=True, by="test")
        control.say("BTCUSDT", wanted=False, by="someone")
        control.say("ETHUSDT", wanted=True, by="test")
        control.withdraw("ETHUSDT")
        held = {"BTCUSDT": SymbolChoice("BTCUSDT", False, NOW_MS + 2, "someone"), "*币*": SymbolChoice("*币*", True, NOW_MS + 1, "test")}
        assert other.read() == control.read() == held
        assert other.follow(0.1) == []
        control.withdraw("BTCUSDT")
        assert eventually(lambda: other.follow(0.2), SOON_S, "what is new") == [Said("BTCUSDT", None)]
        assert other.names() == {"*币*": held["*币*"]}


def test_garbage_on_the_topic_is_passed_over_and_counted(broker: TestBroker) -> None:
    """Records that can't be used leave what was said before them, and don't keep anybody from what follows."""
    topic = make(broker, "control-garbage")
    value = b'{"name":"BTCUSDT","wanted":true,"time":1,"by":"test"}'
    bad = [(b"\xff", value), (b"ETHUSDT", value), (b"BTCUSDT", b"{"), (b"btcusdt", None)]
    topics.publish(broker.bootstrap_servers, [Record(topic, key, line, NOW_MS) for key, line in [(b"BTCUSDT", value), *bad]])
    with ControlLog(kafka(broker), topic) as control:
        control.say("ETHUSDT", wanted=True, by="test")
        assert control.read().keys() == {"BTCUSDT", "ETHUSDT"}
        assert control.passed_over == 4


def test_a_topic_that_is_missing_says_what_to_do(broker: TestBroker) -> None:
    """Reading it raises BrokerError that names the command."""
    with ControlLog(kafka(broker), "control-nowhere") as control, pytest.raises(BrokerError, match="klinestream topics create"):
        control.read()


def test_what_is_said_is_followed_at_once(broker: TestBroker, exchange: Callable[..., Listing]) -> None:
    """The set begins with what the topic and the configuration say together, and changes when the topic does, long before the refresh."""
    topic = make(broker, "wanted-said")
    following = Following()
    market = exchange(BTCUSDT="TRADING", ETHUSDT="TRADING", ETHBTC="TRADING", OLDUSDT="BREAK")
    with ControlLog(kafka(broker), topic) as control:
        control.say("ETHUSDT", wanted=False, by="test")
        with wanted(broker, topic, market, following, symbols=["*USDT", "OLDUSDT"], refresh_s=3600) as thread:
            eventually(lambda: following.symbols == {"BTCUSDT"}, SOON_S, "the first set")
            assert following.reasons == [{"BTCUSDT": "config: *USDT"}]
            control.say("*BTC", wanted=True, by="test")
            eventually(lambda: following.symbols == {"BTCUSDT", "ETHBTC"}, SOON_S, "one more")
            control.withdraw("ETHUSDT")
            eventually(lambda: following.symbols == {"BTCUSDT", "ETHBTC", "ETHUSDT"}, SOON_S, "what was withdrawn")
            control.say("BTCUSDT", wanted=False, by="test")
            eventually(lambda: following.symbols == {"ETHBTC", "ETHUSDT"}, SOON_S, "one less")
            assert following.reasons[-1] == {"BTCUSDT": "topic: BTCUSDT unwanted, by test"}
            eventually(lambda: thread.following == {"ETHBTC", "ETHUSDT"}, SOON_S, "the thread's own set")


def test_listings_halts_and_delistings_are_followed(broker: TestBroker, exchange: Callable[..., Listing]) -> None:
    """Symbols that match join when they are listed or trade again, and leave when they halt or are gone; each with its reason."""
    following = Following()
    market = exchange(AUSDT="TRADING", BUSDT="TRADING")
    with wanted(broker, make(broker, "wanted-listings"), market, following, symbols=[], unwanted=["X*"], refresh_s=0.1):
        steps: list[tuple[dict[str, str], dict[str, str]]] = [
            ({"AUSDT": "TRADING", "BUSDT": "TRADING"}, {"AUSDT": "config: *", "BUSDT": "config: *"}),
            ({"AUSDT": "TRADING", "BUSDT": "HALT", "XUSDT": "TRADING"}, {"BUSDT": "halted: HALT"}),
            ({"BUSDT": "TRADING", "XUSDT": "TRADING"}, {"AUSDT": "delisted", "BUSDT": "trades again, was HALT (config: *)"}),
            ({"BUSDT": "TRADING", "币USDT": "TRADING"}, {"币USDT": "newly listed (config: *)"}),
        ]
        for number, (listed, reasons) in enumerate(steps, 1):
            market.listed = listed
            eventually(lambda number=number: len(following.reasons) >= number, SOON_S, f"change {number}")
            assert following.reasons[number - 1 :] == [reasons]
    assert following.symbols == {"BUSDT", "币USDT"}


def test_an_exchange_that_lists_nothing_changes_nothing(broker: TestBroker, exchange: Callable[..., Listing]) -> None:
    """An empty list is trouble, not a delisting of everything; afterwards the set is kept up again."""
    following = Following()
    market = exchange(AUSDT="TRADING")
    with wanted(broker, make(broker, "wanted-empty"), market, following, symbols=["*"], refresh_s=0.1) as thread:
        eventually(lambda: following.symbols == {"AUSDT"}, SOON_S, "the first set")
        market.listed = {}
        eventually(lambda: "got none" in thread.fault, SOON_S, "trouble")
        before = market.times_listed
        eventually(lambda: market.times_listed > before + 1, SOON_S, "asked again")
        assert following.symbols == thread.following == {"AUSDT"}
        market.listed = {"AUSDT": "TRADING", "BUSDT": "TRADING"}
        eventually(lambda: following.symbols == {"AUSDT", "BUSDT"}, SOON_S, "the set kept up again")
        eventually(lambda: not thread.fault, SOON_S, "no trouble")


def test_a_missing_topic_and_a_failing_callback_are_tried_again(broker: TestBroker, exchange: Callable[..., Listing]) -> None:
    """Nothing is told before the topic is there; a `changed` that fails is called again with the same."""
    following = Following()
    following.fails = 2
    with wanted(broker, "wanted-late", exchange(AUSDT="TRADING"), following, symbols=["*"], refresh_s=0.1) as thread:
        eventually(lambda: "klinestream topics create" in thread.fault, SOON_S, "trouble")
        assert not following.reasons
        make(broker, "wanted-late")
        eventually(lambda: following.reasons == [{"AUSDT": "config: *"}], SOON_S, "told after all")
        assert not following.fails


def test_files_are_read_anew(broker: TestBroker, exchange: Callable[..., Listing], tmp_path: Path) -> None:
    """Names in the files count like the configuration's own, and a file that was emptied changes nothing but says so."""
    need, unwanted = tmp_path / "need.txt", tmp_path / "unwanted.txt"
    need.write_text("# the majors\nausdt  # in any case\n\nB*\n")
    unwanted.write_text("BX*\n")
    following = Following()
    market = exchange(AUSDT="TRADING", BUSDT="TRADING", BXUSDT="TRADING", CUSDT="TRADING")
    keys = {"symbols": [], "symbols_file": str(need), "unwanted_file": str(unwanted), "refresh_s": 0.1}
    with wanted(broker, make(broker, "wanted-files"), market, following, **keys) as thread:
        eventually(lambda: following.symbols == {"AUSDT", "BUSDT"}, SOON_S, "the files' set")
        need.write_text("CUSDT\n")
        eventually(lambda: following.symbols == {"CUSDT"}, SOON_S, "the new file's set")
        need.write_text("# nothing\n")
        eventually(lambda: "expected at least one name" in thread.fault, SOON_S, "trouble")
        need.write_text("two words\n")
        eventually(lambda: f"{need} line 1" in thread.fault, SOON_S, "trouble")
        assert following.symbols == {"CUSDT"}


def test_another_configuration_is_followed_at_once(broker: TestBroker, exchange: Callable[..., Listing]) -> None:
    """Another list, and another exchange to ask, count long before the refresh."""
    following = Following()
    first, second = exchange(AUSDT="TRADING", BUSDT="TRADING"), exchange(AUSDT="TRADING", BUSDT="TRADING", CUSDT="TRADING")
    with wanted(broker, make(broker, "wanted-other"), first, following, symbols=["AUSDT"], refresh_s=3600) as thread:
        eventually(lambda: following.symbols == {"AUSDT"}, SOON_S, "the first set")
        assert thread.statuses == first.listed
        keys = {"rest_url": second.tables["rest_url"], "symbols": ["*"], "unwanted": ["AUSDT"], "refresh_s": 3600}
        thread.reconfigure(Config(exchange=configuration.ExchangeConfig(**keys)))
        eventually(lambda: following.symbols == {"BUSDT", "CUSDT"}, SOON_S, "the other set")


def test_it_ends_while_the_exchange_is_away(broker: TestBroker, exchange: Callable[..., Listing]) -> None:
    """An exchange that doesn't answer is trouble at once, is tried again, and keeps nobody from ending the thread."""
    nobody = exchange()
    nobody.close()
    with wanted(broker, make(broker, "wanted-away"), nobody, Following(), symbols=["*"]) as thread:
        eventually(lambda: "expected an answer" in thread.fault, SOON_S, "trouble")


def test_an_error_that_cannot_be_mended_ends_the_thread(broker: TestBroker, exchange: Callable[..., Listing]) -> None:
    """A fault of the program goes to `failures`."""
    failures: SimpleQueue[Exception] = SimpleQueue()

    def broken(*_: object) -> None:
        raise ValueError("a fault")

    config = Config(kafka=kafka(broker), exchange=configuration.ExchangeConfig(**exchange(BTCUSDT="TRADING").tables))
    thread: threading.Thread = Wanted(config, broken, failures, control=ControlLog(config.kafka, make(broker, "wanted-broken")))
    thread.start()
    assert isinstance(failures.get(timeout=SOON_S), ValueError)
    thread.join(SOON_S)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture
def command(broker: TestBroker, standin: RunningStandin, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`command("list", …)`: `klinestream symbols list …` between the stand-in and the broker."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "KLINESTREAM_KAFKA__CLIENT": "confluent-kafka",
            "KLINESTREAM_EXCHANGE__REST_URL": standin.http,
            "PATH": "/usr/bin:/bin",
            "COLUMNS": "120",
        }
        line = [scripts() / "klinestream", "symbols", *arguments]
        return subprocess.run(
            line, env=environment | variables, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False
        )

    return run


def rows(shown: str) -> list[list[str]]:
    """A table's rows, by cell."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if line.startswith("│")]


@pytest.fixture
def control(broker: TestBroker) -> Iterator[ControlLog]:
    """The control topic that the commands write, empty of names before and after."""
    make(broker, CONTROL.name)
    with ControlLog(kafka(broker)) as opened:
        for name in opened.read():
            opened.withdraw(name)
        yield opened
        for name in opened.read():
            opened.withdraw(name)


def test_the_command_says_takes_back_and_lists(command: Callable[..., subprocess.CompletedProcess[str]], control: ControlLog) -> None:
    """`add`, `remove` and `reset` say what they mean, and `list` shows each symbol with its status and why it is followed or not."""
    first, second, third = sorted(market().symbols)[:3]
    added = command("add", second.lower(), "NOTHING*")
    assert (added.returncode, added.stdout) == (0, f"{second}: wanted\nNOTHING*: wanted\n")
    assert "NOTHING*: no symbol matches it now" in added.stderr
    assert command("remove", first).returncode == 0
    shown = command("list", first, second, third, "OLDUSDT", "--all", KLINESTREAM_EXCHANGE__SYMBOLS=f'["{first}", "OLDUSDT"]')
    assert shown.returncode == 0, shown.stderr
    assert rows(shown.stdout) == sorted(
        [
            [first, "TRADING", "no", f"topic: {first} unwanted, by cli"],
            [second, "TRADING", "yes", f"topic: {second}, by cli"],
            [third, "TRADING", "no", "nobody asked for it"],
            ["OLDUSDT", "not listed", "no", "config: OLDUSDT"],
        ]
    )
    assert f"1 of {len(market().symbols)} listed symbols are to be followed" in shown.stdout
    assert {name: choice.wanted for name, choice in control.read().items()} == {second: True, "NOTHING*": True, first: False}
    reset = command("reset", first, second, third)
    assert (reset.returncode, reset.stdout) == (0, f"{first}: reset\n{second}: reset\n")
    assert f"{third}: nothing was said" in reset.stderr
    assert control.read().keys() == {"NOTHING*"}


def test_the_command_refuses_what_means_nothing(command: Callable[..., subprocess.CompletedProcess[str]], control: ControlLog) -> None:
    """An unlisted name is one clear line and exit code 1, and nothing is said of the others; --force says it without the exchange."""
    refused = command("add", next(iter(market().symbols)), "NOSUCHUSDT")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "klinestream: expected symbols that the exchange lists, got NOSUCHUSDT" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert control.read() == {}
    forced = command("add", "--force", "NOSUCHUSDT", KLINESTREAM_EXCHANGE__REST_URL="http://127.0.0.1:1")
    assert (forced.returncode, forced.stdout) == (0, "NOSUCHUSDT: wanted\n")
    assert control.read().keys() == {"NOSUCHUSDT"}
