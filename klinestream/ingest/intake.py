"""One request from its checked records to its answer: room, key, broker, order. Every rule of what is answered when stands here.

```
 take ─► room? ─► key claimed? ─► publish ─► all acknowledged ─► read back: which came late ─► key done ─► 202
          429       409 or the      │                                                                       │
                    same answer     └── goes on by itself after a 503: who asks again under the key waits ──┘
```
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from klinestream.ingest.follower import Follower
from klinestream.ingest.keys import Held
from klinestream.ingest.metrics import Metrics
from klinestream.ingest.outlet import Outlet, Places
from klinestream.ingest.posted import Posted
from klinestream.ingest.refusals import PostError, shown
from klinestream.market.codec import encode_event
from klinestream.market.errors import DeliveryError
from klinestream.market.events import IngestKey, KeyState
from klinestream.market.topics import INGEST_KEYS, KLINES, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION, TRADES
from klinestream.runtime.ingest_section import IngestConfig
from klinestream.runtime.kafka import Record

SYMBOLS_TOLD_MOST = 100
"""Of more symbols those with late records are told first; the numbers are of all."""
READ_BACK_SHARE = 0.3
"""How much of `answer_s` an answer waits to know what came late: it is a 202 without that, and must be one in time."""
RETRY_AFTER_S = 1
_LOOK_S = 0.02
_ORDERED = (KLINES, TRADES)
_AGAIN = "send the same again, under the same Idempotency-Key if it had one: what is there already is not counted twice"


@dataclass(frozen=True, slots=True)
class Kafka:
    """The two ways to the topics."""

    outlet: Outlet
    follower: Follower


@dataclass(frozen=True, slots=True)
class Named:
    """A request's idempotency key with its source, and the digest of all that was asked."""

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of a 202; `replayed` if it was given before."""

    body: str
    replayed: bool = False


class Intake:
    """All requests of one replica, in its event loop's thread."""

    def __init__(self, config: IngestConfig, kafka: Kafka, metrics: Metrics, replica: str, now_ms: Callable[[], int]) -> None:
        """`replica` is this process's name in claims."""
        self._config = config
        self._outlet = kafka.outlet
        self._follower = kafka.follower
        self._metrics = metrics
        self._now_ms = now_ms
        self._claims = (f"{replica}-{number}" for number in itertools.count())
        self._running: dict[str, tuple[str, asyncio.Task[Answer]]] = {}
        self._tasks: set[asyncio.Task[Answer]] = set()
        self.waiting = 0

    async def take(self, posted: Posted, named: Named | None) -> Answer:
        """The answer, once the broker has every record; raises PostError."""
        task = self._task(posted, named)
        try:
            async with asyncio.timeout(self._config.answer_s):
                return await asyncio.shield(task)
        except TimeoutError:
            raise PostError(
                503,
                "slow_broker",
                f"the broker's word on all records within {self._config.answer_s:g} s (ingest.answer_s)",
                "none yet: they may still arrive",
                _AGAIN,
                retry_after_s=RETRY_AFTER_S,
            ) from None
        except DeliveryError as error:
            raise PostError(
                503, "lost", "every record acknowledged by the broker", shown(error), _AGAIN, retry_after_s=RETRY_AFTER_S
            ) from None

    def given(self, named: Named) -> tuple[Answer | None, int]:
        """The answer that was given under this key, and when the key was claimed (0: it wasn't), as far as is read; raises PostError."""
        held = self._follower.keys.held(named.key, self._now_ms())
        if held is None:
            return None, 0
        if held.digest != named.digest:
            raise _conflict()
        if not held.answer:
            return None, held.claimed_ms
        self._metrics.replayed.inc()
        return Answer(held.answer, replayed=True), held.claimed_ms

    @property
    def keys(self) -> int:
        """How many idempotency keys are held."""
        return len(self._follower.keys)

    def faults(self) -> list[str]:
        """Why a post would be refused now, or wait."""
        found = [] if self._outlet.connected else ["no connection to the broker"]
        if not self._follower.caught_up:
            found.append("the idempotency keys are not all read")
        if self.waiting >= self._config.waiting_most:
            found.append("too many records wait for the broker")
        return found

    async def finish(self) -> None:
        """Wait for all that is under way; for the end of the process, which bounds it."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _task(self, posted: Posted, named: Named | None) -> "asyncio.Task[Answer]":
        running = None if named is None else self._running.get(named.key)
        if running is not None and named is not None:
            if running[0] != named.digest:
                raise _conflict()
            return running[1]
        if self.waiting + posted.count > self._config.waiting_most:
            raise PostError(
                429,
                "full",
                f"at most {self._config.waiting_most} records that wait for the broker (ingest.waiting_most)",
                f"{self.waiting} wait, and {posted.count} more",
                "wait as Retry-After says, then send the same again",
                retry_after_s=RETRY_AFTER_S,
            )
        self._wait(posted.count)
        task = asyncio.create_task(self._work(posted, named))
        self._tasks.add(task)
        if named is not None:
            self._running[named.key] = (named.digest, task)

        def ended(task: "asyncio.Task[Answer]") -> None:
            self._wait(-posted.count)
            self._tasks.discard(task)
            if named is not None:
                del self._running[named.key]
            if not task.cancelled():
                task.exception()  # nobody may be waiting any more

        task.add_done_callback(ended)
        return task

    def _wait(self, records: int) -> None:
        self.waiting += records
        self._metrics.waiting.set(self.waiting)

    async def _work(self, posted: Posted, named: Named | None) -> Answer:
        if named is not None:
            given = await self._claim(named)
            if given:
                self._metrics.replayed.inc()
                return Answer(given, replayed=True)
        if posted.topic in _ORDERED:
            self._follower.follow(posted.topic.name)
        began_s = time.monotonic()
        places = await self._outlet.send(posted.records)
        self._metrics.publish_seconds.observe(time.monotonic() - began_s)
        self._metrics.accepted.labels(posted.topic.name).inc(posted.count)
        body = orjson.dumps(await self._told(posted, places)).decode()
        if named is not None:
            # Before the answer: whoever has had it finds it again, at any replica.
            await self._outlet.send([self._key_record(named, KeyState.DONE, "", body)])
        return Answer(body)

    async def _claim(self, named: Named) -> str:
        """The answer that was given under this key, empty if there is none; raises PostError if the key is of another request."""
        held = self._follower.keys.held(named.key, self._now_ms())
        if held is None:
            mine, held = await self._read_on(named)
            if held is None or held.claim == mine:
                return ""
        if held.digest != named.digest:
            raise _conflict()
        await self._others(held)
        if held.answer:
            return held.answer
        # The topic may tell more than is read: its end has to be seen before anything is published again.
        _, held = await self._read_on(named)
        if held is not None and held.digest != named.digest:
            raise _conflict()
        return "" if held is None else held.answer

    async def _read_on(self, named: Named) -> tuple[str, Held | None]:
        """A claim of our own, and what the topic tells of the key up to it: all that was written before."""
        mine = next(self._claims)
        ((partition, offset),) = await self._outlet.send([self._key_record(named, KeyState.CLAIMED, mine, "")])
        try:
            async with asyncio.timeout(self._config.answer_s):
                await self._follower.past(INGEST_KEYS.name, partition, offset)
        except TimeoutError:
            # Without a bound its records would count against the room for ever.
            expected = f"{INGEST_KEYS.name} read up to its end within {self._config.answer_s:g} s (ingest.answer_s)"
            raise DeliveryError(f"expected {expected}, but it was not: nothing of the request is published") from None
        return mine, self._follower.keys.held(named.key, self._now_ms())

    async def _others(self, held: Held) -> None:
        """Let who has claimed it finish; what it has not finished by then may be published twice, which readers don't notice."""
        patience_ms = self._config.answer_s * 1000 / 2
        while not held.answer and self._now_ms() - held.claimed_ms < patience_ms:
            await asyncio.sleep(_LOOK_S)

    def _key_record(self, named: Named, state: KeyState, claim: str, answer: str) -> Record:
        now_ms = self._now_ms()
        value = encode_event(IngestKey(named.key, state, named.digest, claim or "-", answer, now_ms))
        headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % now_ms))
        return Record(INGEST_KEYS.name, named.key.encode(), value, now_ms, headers)

    async def _told(self, posted: Posted, places: Places) -> dict[str, Any]:
        """What a 202 says: where each symbol's records stand, and which of them behind a newer one."""
        shares = posted.shares or [1] * len(posted.records)
        symbols: dict[str, _Symbol] = {}
        for record, share, (partition, offset) in zip(posted.records, shares, places, strict=True):
            symbol = (record.key or b"").decode()
            symbols.setdefault(symbol, _Symbol(symbol, partition)).add(offset, record.timestamp_ms, share)
        known = posted.topic in _ORDERED and await self._read_back(posted.topic.name, places)
        for one in symbols.values():
            one.late = len(self._follower.late(posted.topic.name, one.partition, one.offsets)) if known else None
        late = sum(one.late or 0 for one in symbols.values()) if known else None
        self._metrics.late.labels(posted.topic.name).inc(late or 0)
        shown_first = sorted(symbols.values(), key=lambda one: not one.late)[:SYMBOLS_TOLD_MOST]
        return {
            "accepted": posted.count,
            "source": posted.source,
            "topic": posted.topic.name,
            "late": late,
            "symbols_in_all": len(symbols),
            "symbols": [one.told() for one in shown_first],
        }

    async def _read_back(self, topic: str, places: Places) -> bool:
        """Whether all of it is read back within a little while."""
        ends: dict[int, int] = {}
        for partition, offset in places:
            ends[partition] = max(offset, ends.get(partition, -1))
        try:
            async with asyncio.timeout(READ_BACK_SHARE * self._config.answer_s):
                for partition, offset in ends.items():
                    await self._follower.past(topic, partition, offset)
        except TimeoutError:
            return False
        return True


class _Symbol:
    """Where one symbol's records of a request stand."""

    def __init__(self, symbol: str, partition: int) -> None:
        self.symbol = symbol
        self.partition = partition
        self.offsets: list[int] = []
        self.late: int | None = None
        self._newest_ms = 0
        self._count = 0

    def add(self, offset: int, time_ms: int, count: int) -> None:
        self.offsets.append(offset)
        self._newest_ms = max(self._newest_ms, time_ms)
        self._count += count

    def told(self) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "records": self._count,
            "partition": self.partition,
            "first_offset": self.offsets[0],
            "last_offset": self.offsets[-1],
            "newest": self._newest_ms,
            "late": self.late,
        }


def _conflict() -> PostError:
    return PostError(
        409,
        "key",
        "an Idempotency-Key that no other request has",
        "one of a request with another route, parameters or body",
        "send the first request again, or take a new key",
    )
