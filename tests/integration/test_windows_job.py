"""The windows job on a real broker and a real Flink cluster: what comes out, what is set aside, and what a kill changes."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil
import pytest

from klinestream.market.batch import from_klines
from klinestream.market.codec import encode_event, encode_kline
from klinestream.market.events import SECOND_MS, Kline
from klinestream.market.partitions import partition_of
from klinestream.market.topics import DEAD_LETTERS, KLINE_REPAIRS, KLINES, LATE_DATA, WINDOWS
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from klinestream.stack.commands import configuration, script_of
from tests.eventually import eventually
from tests.klines import kline
from tests.stack import TestBroker, TestFlink
from tests.topics import Topic, kafka, publish, record_of, windows_by_identity

SYMBOLS = [f"COIN{number}USDT" for number in range(12)]
WITHIN_S = 60.0


@pytest.fixture
def submit(job_broker: TestBroker, flink: TestFlink, configured: Callable[..., Config]) -> Iterator[Callable[..., str]]:
    """`submit(batch_ms=…, restore_from=…)`: the job's id; what still runs is cancelled afterwards."""
    started: list[str] = []

    def run(restore_from: str = "", **windows: object) -> str:
        config = configured(kafka=kafka(job_broker.bootstrap_servers).model_dump(exclude={"sasl_password"}), windows=windows)
        started.append(flink.submit(script_of("windows"), restore_from=restore_from, env=configuration(config)))
        return started[-1]

    yield run
    for job in flink.cluster.jobs():
        if job.id in started and not job.ended:
            flink.cancel(job.id)


def series(symbols: list[str], seconds: range, start_ms: int) -> list[Kline]:
    """A kline of each symbol each second, second by second; prices that move."""
    return [
        kline(
            symbol,
            price=10**8 * (50 + (7 * second + 13 * number) % 29) + 1,
            open_time_ms=start_ms + second * SECOND_MS,
            close_time_ms=start_ms + second * SECOND_MS + 999,
            base_volume=10**7 * ((second + number) % 17),
        )
        for second in seconds
        for number, symbol in enumerate(symbols)
    ]


def recent_ms(seconds_ago: int) -> int:
    return (int(time.time()) - seconds_ago) * SECOND_MS


def expected(klines: list[Kline]) -> dict[tuple[str, int], bytes]:
    """What the engine makes of klines in one go: the job must give the same, bit for bit."""
    rows = WindowEngine(WindowSettings()).step(from_klines(klines)).windows
    return {(window.symbol, window.end_ms): encode_event(window) for row in rows for window in row.events()}


def counts(topic: Topic, at_least: int, what: str) -> list[Record]:
    eventually(lambda: len(topic.read()) >= at_least, WITHIN_S, f"{at_least} {what}")
    return topic.read()


def garbage(good: Kline) -> list[tuple[bytes | None, str]]:
    """Lines that can't be used, and why."""
    record = orjson.loads(encode_kline(good))
    far = record | {"t": 4_102_444_800_000, "T": 4_102_444_800_999}
    return [
        (b"\x00\xff garbage", "not JSON"),
        (None, "not JSON"),
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (encode_kline(good)[:-20], "not JSON"),
        (orjson.dumps(record | {"c": None}), "c: expected a decimal string"),
        (orjson.dumps(record | {"n": "12"}), "n: expected an integer"),
        (orjson.dumps({key: value for key, value in record.items() if key != "v"}), "v: missing"),
        (orjson.dumps(far), "t: expected ms since 1970"),
        (orjson.dumps(record | {"t": record["t"] - 1000, "T": record["T"] - 1000}), "T: not the record's timestamp"),
        (b'{"s":' + b"[" * 100_000, "not JSON"),
        (b"x" * 900_000, "not JSON (the first 524288 of 900000 bytes)"),  # as base64 no broker would take it
    ]


@dataclass(frozen=True)
class Mixed:
    """A feed of good klines among all that must not count."""

    held: list[Kline]
    found_later: list[Kline]
    """Klines of a hole among those held."""
    conflicting: list[Kline]
    stale: list[Kline]
    bad: list[tuple[bytes | None, str]]
    """Lines, and how the reason for each begins."""

    @classmethod
    def since(cls, start: int) -> "Mixed":
        """A minute of it."""
        feed = series(SYMBOLS, range(60), start)
        hole = {(SYMBOLS[3], start + second * SECOND_MS) for second in range(20, 24)}
        return cls(
            held=[k for k in feed if (k.symbol, k.open_time_ms) not in hole],
            found_later=[k for k in feed if (k.symbol, k.open_time_ms) in hole],
            conflicting=[
                kline(k.symbol, price=k.close + 1, open_time_ms=k.open_time_ms, close_time_ms=k.close_time_ms)
                for k in series(SYMBOLS[:2], range(59, 60), start)
            ],
            stale=series(SYMBOLS[5:6], range(3, 4), start),
            bad=garbage(feed[0]),
        )

    def records(self) -> list[Record]:
        """As they stand in the topic; the last one stands in a partition that isn't its key's."""
        first, partitions = self.held[0], KLINES.partitions
        records = [record_of(k) for k in self.held]
        for place, (line, _) in enumerate(self.bad):
            records.insert(50 * place, Record(KLINES.name, first.symbol.encode(), line, first.close_time_ms))
        repeats = self.held[-24:]
        records += [record_of(k) for k in (*repeats, *self.conflicting, *self.stale, *self.found_later)]
        stray_key = next(str(n) for n in range(100) if partition_of(str(n), partitions) != partition_of(first.symbol, partitions))
        return [*records, Record(KLINES.name, stray_key.encode(), encode_kline(first), first.close_time_ms)]

    def check_windows(self, windows: Topic) -> None:
        """Each window is right, comes once, and says when it was published."""
        right = expected(self.held)
        counts(windows, len(right), "windows")
        assert windows_by_identity(windows.read()) == right
        assert len(windows.records) == len(right)
        for record in windows.records[:50]:
            value = orjson.loads(record.value or b"")
            assert record.timestamp_ms == value["window_end"] - 1
            assert (record.key or b"").decode() == value["symbol"]
            headers = dict(record.headers)
            assert headers["schema"] == b"1"
            assert abs(int(headers["published_ms"]) - time.time() * 1000) < 120_000

    def check_dead_letters(self, dead: Topic) -> None:
        """Each bad line, and the one that stands in the wrong partition, with the reason and where it was."""
        counts(dead, len(self.bad) + 1, "dead letters")
        reasons = sorted(letter["reason"] for letter in dead.values())
        for wanted in sorted([reason for _, reason in self.bad] + ["s: "]):
            assert any(reason.startswith(wanted) for reason in reasons), (wanted, reasons)
        assert len(reasons) == len(self.bad) + 1
        assert all(letter["source"] == KLINES.name and letter["offset"] >= 0 for letter in dead.values())

    def check_late(self, late: Topic) -> None:
        """What contradicts a held kline, and what is older than all that is remembered."""
        counts(late, len(self.conflicting) + len(self.stale), "late klines")
        assert sorted((entry["reason"], entry["kline"]["s"], entry["kline"]["t"]) for entry in late.values()) == sorted(
            [("conflict", k.symbol, k.open_time_ms) for k in self.conflicting] + [("stale", k.symbol, k.open_time_ms) for k in self.stale]
        )

    def check_repairs(self, repairs: Topic) -> None:
        """What falls into the hole, as it came."""
        counts(repairs, len(self.found_later), "repairs")
        assert {record.value for record in repairs.read()} == {encode_kline(k) for k in self.found_later}


def test_every_line_is_accounted_for(job_broker: TestBroker, submit: Callable[..., str]) -> None:
    """Among garbage, repeats, conflicts, stale and late klines each window is right, and each other line has its place."""
    mixed = Mixed.since(recent_ms(80))
    publish(job_broker.bootstrap_servers, mixed.records())
    submit(remembered_s=30)
    checks = {
        WINDOWS: mixed.check_windows,
        DEAD_LETTERS: mixed.check_dead_letters,
        LATE_DATA: mixed.check_late,
        KLINE_REPAIRS: mixed.check_repairs,
    }
    for topic, check in checks.items():
        with closing(Topic(job_broker.bootstrap_servers, topic.name)) as read:
            check(read)


@pytest.mark.parametrize("delivery", ["at-least-once", pytest.param("exactly-once", marks=pytest.mark.soak)])
def test_a_killed_task_manager_changes_no_value(
    delivery: str, job_broker: TestBroker, flink: TestFlink, submit: Callable[..., str]
) -> None:
    """With its TaskManager killed in mid-flow the job's output has no hole and no identity with two values; exactly-once, no repeats."""
    start = recent_ms(300)
    feed = series(SYMBOLS, range(240), start)
    half = len(feed) // 2
    publish(job_broker.bootstrap_servers, map(record_of, feed[:half]))
    job = submit(delivery=delivery)
    windows = Topic(job_broker.bootstrap_servers, WINDOWS.name)
    counts(windows, half, "windows")
    eventually(lambda: flink.cluster.checkpoints_completed(job) > 0, WITHIN_S, "a checkpoint completes")
    publish(job_broker.bootstrap_servers, map(record_of, feed[half:]))
    workers = [child for child in psutil.Process(flink.task_manager_pid).children(recursive=True) if "python" in child.name()]
    assert workers, "expected Python workers below the task manager"
    flink.kill_task_manager()
    eventually(lambda: not any(worker.is_running() for worker in workers), WITHIN_S, "the workers are gone with their task manager")
    flink.start_task_manager()
    right = expected(feed)
    eventually(lambda: len(windows_by_identity(windows.read())) >= len(right), WITHIN_S, "all windows are there")
    assert windows_by_identity(windows.read()) == right
    if delivery == "exactly-once":
        assert len(windows.records) == len(right)
    windows.close()


@pytest.mark.soak
def test_a_savepoint_carries_the_job_over_a_change(
    job_broker: TestBroker, flink: TestFlink, submit: Callable[..., str], tmp_path: Path
) -> None:
    """Stopped with a savepoint and resumed with another parallelism and batch interval, the job goes on as if it had never stopped."""
    start = recent_ms(300)
    feed = series(SYMBOLS, range(200), start)
    half = len(feed) // 2
    publish(job_broker.bootstrap_servers, map(record_of, feed[:half]))
    job = submit()
    windows = Topic(job_broker.bootstrap_servers, WINDOWS.name)
    counts(windows, 2 * half, "windows")
    savepoint = flink.cluster.stop(job, str(tmp_path / "savepoints"))
    publish(job_broker.bootstrap_servers, map(record_of, feed[half:]))
    submit(restore_from=savepoint, parallelism=2, batch_ms=25)
    right = expected(feed)
    counts(windows, len(right), "windows")
    assert windows_by_identity(windows.read()) == right
    windows.close()
