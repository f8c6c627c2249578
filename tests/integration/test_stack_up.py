"""The whole local stack: it comes up, brings back what dies, keeps its state, and leaves nothing running."""

import math
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from bench import chaos
from klinestream.archive import parquet
from klinestream.archive.columns import RAW
from klinestream.archive.files import Files
from klinestream.archive.verify import verify
from klinestream.market.errors import StackError
from klinestream.market.topics import KLINES, WINDOWS
from klinestream.stack.commands import configuration
from klinestream.stack.java import scripts
from klinestream.stack.plans import server_url
from klinestream.stack.process import marked
from klinestream.stack.supervisor import Supervisor
from tests.eventually import eventually
from tests.grafana import Look, promql
from tests.prometheus import PANELS, RATES_S, Prometheus, program
from tests.proof import prove
from tests.replay_proof import prove_replay
from tests.whole_stack import TestStack

_UP_S = 180
CHAOS_S = 100.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestStack]:
    """A stack that is up."""
    started = TestStack(tmp_path_factory.mktemp("stack"))
    try:
        started.start()
        yield started
    finally:
        started.stop()
    assert not list(marked(f"{started.config.stack.state_dir}#")), "stop must leave nothing"


def test_the_status_page_sees_every_part_run(stack: TestStack) -> None:
    """The server reaches the metrics of all parts, and Flink, where the stack has put them; klines are counted, and nothing waits long."""

    def seen() -> bool:
        told = httpx.get(f"{server_url(stack.config)}/api/v1/pipeline", timeout=10).json()
        parts = {part["name"]: part for part in told["parts"]}
        names = {"exchange", "producer", "repair", "archive", "proof", "broker", "flink", "windows", "candles", "history", "server"}
        assert {name: part["state"] for name, part in parts.items()} == dict.fromkeys(names, "running"), told
        assert parts["windows"]["checkpoint"]["completed"] > 0
        assert parts["windows"]["behind"] is not None
        return bool(parts["producer"]["per_s"] and parts["windows"]["figures"].get("klines"))

    eventually(seen, _UP_S, "all parts run")


@pytest.mark.skipif(program("prometheus") is None, reason="no prometheus here: scripts/prometheus.sh fetches it")
def test_prometheus_sees_the_stack_as_its_dashboard_asks(stack: TestStack, tmp_path: Path) -> None:
    """Scraped from the parts themselves: klines flow, they are fresh, latencies have percentiles, and nothing is stale or away."""
    config = stack.config
    ports = {"producer": config.producer.metrics_port, "repair": config.repair.metrics_port, "archive": config.archive.metrics_port}
    ports |= {"proof": config.proof.metrics_port, "server": config.server.port}
    look = Look(0, 60_000, "1s")
    with closing(Prometheus(tmp_path, {job: [f"127.0.0.1:{port}"] for job, port in ports.items()})) as prometheus:
        prometheus.wait_until_scraped()

        def value(panel: str) -> float:
            found = prometheus.query(promql(PANELS[f"health: {panel}"], look, RATES_S))
            return float(found[0]["value"][1]) if found else math.nan

        eventually(lambda: value("Klines a second A") > 0, _UP_S, "klines are counted")
        eventually(lambda: value("From kline to window C") > 0, _UP_S, "windows have a latency")
        eventually(lambda: value("Oldest data A") < 15, _UP_S, "klines are fresh")
        eventually(lambda: value("Connections A") > 0, _UP_S, "connections are open")
        # A scrape that comes late makes an alert wait; only one that lasts fires.
        firing = 'ALERTS{alertstate="firing", alertname=~"KlinesStale|WindowsStale|PartAway"}'
        eventually(lambda: not prometheus.query(firing), _UP_S, "nothing is stale or away")


def test_nothing_can_be_reached_from_elsewhere(stack: TestStack) -> None:
    """Whatever the stack runs, the JVMs included, listens on this machine's own address alone; but for Flink's task managers."""
    heard = {
        (process.name(), connection.laddr.ip.removeprefix("::ffff:"))
        for process in marked(f"{stack.config.stack.state_dir}#")
        # PyFlink opens a port for each of its Python workers to call back on, and lets nobody say on which address.
        if not any("TaskManagerRunner" in word for word in process.cmdline())
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {name for name, _ in heard} >= {"java", "klinestream"}
    assert {address for _, address in heard} == {"127.0.0.1"}, heard


@pytest.mark.parametrize(
    "part",
    [
        "server",
        "producer",
        pytest.param("standin", marks=pytest.mark.soak),
        pytest.param("repair", marks=pytest.mark.soak),
        "task-manager-1",
        pytest.param("job-manager", marks=pytest.mark.soak),
        "broker",
    ],
)
def test_a_killed_part_comes_back_and_the_chart_with_it(stack: TestStack, part: str) -> None:
    """After kill -9 of any part the supervisor starts it again, and the chart has fresh data again."""
    killed = stack.kill(part)
    eventually(lambda: stack.supervisor.pids().get(part) not in {None, killed}, 30, f"{part} is started again")
    stack.wait_until_up(_UP_S)


def test_faults_in_any_order_are_survived(stack: TestStack) -> None:
    """While the exchange breaks in every way, and a part is killed in between, all goes on. (The next test proves the numbers.)"""
    strikes = chaos.run(stack, CHAOS_S, seed=7, parts=("producer",))
    assert len({strike.what for strike in strikes}) >= 6 + 1
    assert "kill producer" in {strike.what for strike in strikes}


def test_no_number_was_lost_doubled_or_changed_by_it(stack: TestStack) -> None:
    """After all these kills the feed has no hole, or a repaired one that is on record, and every window is right, once."""
    prove(stack)


def test_a_second_stack_over_the_same_folder_is_refused(stack: TestStack) -> None:
    """Another stack over a folder in use raises StackError that names the process; the first one goes on."""
    with pytest.raises(StackError, match=rf"process {os.getpid()}"):
        Supervisor(stack.config).start()
    assert stack.supervisor.pids()


def test_nothing_is_left_after_the_supervisor_was_killed(stack: TestStack) -> None:
    """`klinestream up` resumes a stopped stack; killed with -9 it leaves no process behind, Flink's Python workers included."""
    stack.stop()
    folder = stack.config.stack.state_dir
    said = folder / "up.txt"
    command = [str(scripts() / "klinestream"), "up", "--no-table", "--symbols", "10"]
    with said.open("wb") as output:
        up = subprocess.Popen(command, env=os.environ | configuration(stack.config), stdout=output, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: "the chart has data" in said.read_text() or up.poll() is not None, _UP_S, "the chart has data")
        assert up.poll() is None, said.read_text()
    finally:
        up.send_signal(signal.SIGKILL)
        up.wait()
    eventually(lambda: not list(marked(f"{folder}#")), 15, "nothing is left")


def test_what_was_archived_is_whole(stack: TestStack) -> None:
    """Over all these lives of the stack, each ended in its own way: no offset of any topic is missing, and no file is spoilt."""
    files = Files(str(stack.config.stack.state_dir / "archive"))
    list(files.sweep())
    found = list(verify(files, files.topics()))
    assert [fault for checked in found for fault in checked.faults] == []
    rows = Counter[str]()
    for checked in found:
        rows[checked.topic] += checked.rows
    assert rows[WINDOWS.name] > rows[KLINES.name] > 10 * CHAOS_S
    for topic in files.topics():
        for span in files.spans(topic):
            raw = parquet.read(files, span, [RAW]).column(RAW)
            assert raw.null_count == len(raw), f"expected columns for all that is in {topic}"


def test_a_replay_gives_what_was_published_to_the_last_bit(stack: TestStack) -> None:
    """Over the same lives `klinestream verify replay` finds every window, candle and indicator equal, and none missing.

    So short a life may have no candle that was built from its first second; `make chaos` has many, and looks at all three.
    """
    # The last life ended by kill -9: what stood in no file yet is not there.
    assert prove_replay(stack, 30)[WINDOWS.name] > 0
