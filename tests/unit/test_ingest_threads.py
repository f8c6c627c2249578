"""The threads of ingestion: what a follower does when topics go or the broker is away, and how a replica ends that has lost one of them."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from klinestream.ingest import follower as following
from klinestream.ingest import run
from klinestream.ingest.follower import Follower
from klinestream.ingest.outlet import Outlet
from klinestream.market.codec import encode_event
from klinestream.market.errors import BrokerError, ConfigError, StackError
from klinestream.market.events import IngestKey, KeyState
from klinestream.market.topics import INGEST_KEYS, KLINES
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from tests.ports import free_ports

NOW_MS = 1_764_410_400_000
WAIT_S = 10.0


@dataclass
class Broker:
    """Topics by name, each one partition of records from an offset on."""

    topics: dict[str, tuple[int, list[Record]]]
    opened: list["FakeReader"] = field(default_factory=list)
    missed: set[str] = field(default_factory=set)

    def open(self) -> "FakeReader":
        self.opened.append(FakeReader(self))
        return self.opened[-1]


class FakeReader:
    """A reader of it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.positions: dict[tuple[str, int], int] = {}
        self.is_broken = False

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        if topic not in self._broker.topics:
            self._broker.missed.add(topic)
            raise BrokerError(f"there is no {topic}")
        first, records = self._broker.topics[topic]
        return {0: (first, first + len(records))}

    def offsets_at(self, topic: str, _: int) -> Mapping[int, int]:
        return {0: self.bounds(topic)[0][0]}

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        self.positions = dict(positions)

    def poll(self, _: float) -> Sequence[Record]:
        time.sleep(0.005)
        if self.is_broken:
            raise BrokerError("a broker that is away")
        found = []
        for (topic, partition), position in self.positions.items():
            first, end = self.bounds(topic)[partition]
            if not first <= position <= end:
                raise BrokerError(f"offset {position} of {topic} is out of range")
            some = self._broker.topics[topic][1][position - first :]
            found += [replace(record, partition=0, offset=position + n) for n, record in enumerate(some)]
            self.positions[topic, partition] = end
        return found

    def close(self) -> None: ...


def claimed(key: str) -> Record:
    told = IngestKey(key, KeyState.CLAIMED, "digest", f"of {key}", "", NOW_MS)
    return Record(INGEST_KEYS.name, key.encode(), encode_event(told), NOW_MS)


def followed(broker: Broker, check: Callable[[Follower], Any]) -> None:
    """Run a check beside a follower of this broker."""

    async def go() -> None:
        follower = Follower(broker.open, lambda: NOW_MS)
        follower.start()
        try:
            await check(follower)
        finally:
            await asyncio.to_thread(follower.stop, WAIT_S)

    asyncio.run(go())


async def until(condition: Callable[[], bool]) -> None:
    """Wait in a loop that has to go on meanwhile."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "RETRY_S", 0.01)
    monkeypatch.setattr(following, "LOOK_AGAIN_S", 0.05, raising=False)


def test_keys_made_anew_are_read_from_their_begin() -> None:
    """The topic of keys is deleted and created: the position lies beyond its end, and what comes is read all the same."""
    broker = Broker({INGEST_KEYS.name: (0, [claimed(f"a{n}") for n in range(5)])})

    async def check(follower: Follower) -> None:
        await until(lambda: follower.caught_up)
        broker.topics[INGEST_KEYS.name] = (0, [claimed("b")])
        async with asyncio.timeout(WAIT_S):
            while follower.keys.held("b", NOW_MS) is None:
                await asyncio.sleep(0.005)
            await follower.past(INGEST_KEYS.name, 0, 0)
        assert follower.keys.held("a1", NOW_MS) is not None

    followed(broker, check)


def test_a_topic_that_is_missing_stops_no_keys_and_is_found_later() -> None:
    """Somebody posted klines where their topic is gone: keys are read on, and the klines too once they have a topic."""
    broker = Broker({INGEST_KEYS.name: (0, [])})

    async def check(follower: Follower) -> None:
        await until(lambda: follower.caught_up)
        follower.follow(KLINES.name)
        await until(lambda: KLINES.name in broker.missed)
        broker.topics[INGEST_KEYS.name][1].append(claimed("k"))
        async with asyncio.timeout(WAIT_S):
            await follower.past(INGEST_KEYS.name, 0, 0)
            broker.topics[KLINES.name] = (0, [Record(KLINES.name, b"X:A", b"", NOW_MS - late) for late in (0, 1)])
            await follower.past(KLINES.name, 0, 1)
        assert follower.late(KLINES.name, 0, [0, 1]) == [1]

    followed(broker, check)


def test_in_trouble_the_keys_are_not_all_read() -> None:
    """A replica that can't read is not ready, until it has read up to the end again."""
    broker = Broker({INGEST_KEYS.name: (0, [claimed("k")])})

    async def check(follower: Follower) -> None:
        await until(lambda: follower.caught_up)
        kept = broker.topics.pop(INGEST_KEYS.name)
        broker.opened[-1].is_broken = True
        await until(lambda: not follower.caught_up)
        broker.topics[INGEST_KEYS.name] = kept
        await until(lambda: follower.caught_up)

    followed(broker, check)


def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    """While nothing is read, those who waited for it in vain aren't remembered."""
    broker = Broker({INGEST_KEYS.name: (0, [])})

    async def check(follower: Follower) -> None:
        await until(lambda: follower.caught_up)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await follower.past(INGEST_KEYS.name, 0, 7)
        assert not any(follower._waiting.values())

    followed(broker, check)


def fault() -> Any:
    raise RuntimeError("something that nobody foresaw")


def test_an_error_that_nobody_foresaw_is_told_by_each_thread() -> None:
    """Other than the broker's troubles it ends the thread, and whoever has to end the process hears of it."""
    told: list[Exception] = []
    outlet = Outlet(fault, told.append)
    outlet.start()

    async def follow() -> None:
        follower = Follower(fault, lambda: NOW_MS, told.append)
        follower.start()
        await until(lambda: len(told) == 2)
        follower.stop(WAIT_S)

    asyncio.run(follow())
    outlet.stop(WAIT_S)
    assert not outlet.connected
    assert {str(error) for error in told} == {"something that nobody foresaw"}


@pytest.fixture
def handlers() -> Iterator[None]:
    """What handles signals stays as it was."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("handlers")
def test_a_replica_without_its_thread_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends, not at exit code 0, so that whoever watches over it starts another."""
    [port] = free_ports(1)

    def away(*_: object) -> Any:
        raise BrokerError("away")

    monkeypatch.setattr(run, "open_publisher", lambda *_: fault())
    monkeypatch.setattr(run, "open_reader", away)
    ending = threading.Timer(WAIT_S, os.kill, (os.getpid(), signal.SIGTERM))  # where it would go on for ever
    ending.start()
    try:
        with pytest.raises(StackError, match="nobody foresaw"):
            run.run(Config(ingest={"port": port, "metrics_port": 0}))
    finally:
        ending.cancel()


@pytest.mark.parametrize("servers", ["nonsense", "a:1,b:", ":9092", "a:65536", "a:1,,b:2"])
def test_addresses_that_are_none_are_told_before_anything_listens(servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an error of the command, not by a thread that is gone."""
    monkeypatch.setattr(run, "_listen", fault)
    with pytest.raises(ConfigError, match=r"kafka\.bootstrap_servers: expected host:port"):
        run.run(Config(kafka={"bootstrap_servers": servers}))
