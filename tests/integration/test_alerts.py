"""`klinestream alerts` on a real broker and a real web address: what it posts, once, and what becomes of the rest."""

import base64
import hashlib
import hmac
import os
import re
import signal as signals
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import orjson
import pytest

from klinestream.market.codec import encode_event
from klinestream.market.events import SECOND_MS, FeedGap, GapState, Side, Signal, SignalState, gap_id
from klinestream.market.signals import signal_id
from klinestream.market.topics import DEAD_LETTERS, FEED_GAPS, PIPELINE_EVENTS, PUBLISHED_HEADER, SIGNALS
from klinestream.runtime.config import PREFIX
from klinestream.runtime.kafka import Record
from klinestream.stack.java import scripts
from tests.eventually import eventually
from tests.klines import kline
from tests.ports import free_ports
from tests.receiver import Posted, Receiver, Reply, receiver
from tests.stack import TestBroker
from tests.topics import Topic, publish, record_of

SOON_S = 20.0
STALE_AFTER_S = 2
KEY = "a key of ours"


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as served:
        yield served


class Alerts:
    """`klinestream alerts` in a process of its own."""

    def __init__(self, broker: TestBroker, hook: Receiver, folder: Path, client: str) -> None:
        """Returns when it follows the topics."""
        (self._port,) = free_ports(1)
        own = {
            "KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "KAFKA__CLIENT": client,
            "SIGNALS__WEBHOOK_URL": hook.url,
            "SIGNALS__WEBHOOK_SECRET": KEY,
            "SIGNALS__WEBHOOK_ATTEMPTS": "2",
            "SIGNALS__METRICS_PORT": str(self._port),
            "SERVER__STALE_AFTER_S": str(STALE_AFTER_S),
            "LOG__LEVEL": "debug",
        }
        self.log = folder / "alerts.log"
        environment = {"PATH": os.environ["PATH"]} | {PREFIX + key: value for key, value in own.items()}
        with self.log.open("ab") as output:
            command = [str(scripts() / "klinestream"), "alerts"]
            self._process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        eventually(self._is_well, SOON_S, "alerts follow the topics")

    def metric(self, name: str) -> float:
        text = httpx.get(f"http://127.0.0.1:{self._port}/metrics", trust_env=False).text
        return float(next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(f"klinestream_alerts_{name} ")))

    def end(self) -> None:
        self._process.send_signal(signals.SIGTERM)
        assert self._process.wait(30) == 0, self.log.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)

    def _is_well(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/healthz", trust_env=False).is_success
        except httpx.TransportError:
            return False


Starting = Callable[..., Alerts]


@pytest.fixture
def start(module_broker: TestBroker, hook: Receiver, tmp_path: Path) -> Iterator[Starting]:
    """Starts alerts that post to `hook`; ended with the test, whatever becomes of it. None of them logs what it must not."""
    started: list[Alerts] = []

    def begin(client: str = "kafka-python") -> Alerts:
        started.append(Alerts(module_broker, hook, tmp_path, client))
        return started[-1]

    yield begin
    for one in started:
        one.kill()
    text = started[0].log.read_text()
    assert not [secret for secret in ("token-of-mine", "hush", KEY) if secret in text], text


def a_signal(symbol: str, **changes: object) -> Signal:
    """A signal of a minute that has closed some 2 s ago."""
    close_ms = int(time.time() * SECOND_MS) - 2000
    values: dict[str, object] = {
        "id": signal_id(symbol, "1m", "rsi", Side.BUY, close_ms - 59_999), "symbol": symbol, "interval": "1m",
        "open_time_ms": close_ms - 59_999, "close_time_ms": close_ms, "side": Side.BUY, "rule": "rsi", "state": SignalState.FIRED,
        "price": 50.5, "value": 28.4, "limit": 30.0, "reason": "RSI 14 fell to 28.4, below 30", "since_ms": 0, "revision": 0,
    }  # fmt: skip  # as they belong together
    return Signal(**(values | changes))  # type: ignore[arg-type]  # the caller names fields


def record(event: Signal | FeedGap) -> Record:
    topic, time_ms = (FEED_GAPS.name, event.time_ms) if isinstance(event, FeedGap) else (SIGNALS.name, event.close_time_ms)
    return Record(topic, event.symbol.encode(), encode_event(event), time_ms, ((PUBLISHED_HEADER, b"%d" % time_ms),))


def key(signal: Signal) -> str:
    return f"{signal.id}:{signal.state}:{signal.revision}"


def of_kind(hook: Receiver, kind: str) -> list[Posted]:
    return [one for one in hook.posted if one.message["kind"] == kind]


def came(hook: Receiver, *keys: str) -> Callable[[], bool]:
    return lambda: set(keys) <= set(hook.keys())


def letters(broker: TestBroker) -> list[dict[str, object]]:
    with closing(Topic(broker.bootstrap_servers, DEAD_LETTERS.name)) as topic:
        return topic.values()


def test_a_signal_is_one_signed_post(module_broker: TestBroker, hook: Receiver, start: Starting) -> None:
    """However often it is written; old ones are not posted, and what is no signal is a dead letter."""
    publish(module_broker.bootstrap_servers, [record(a_signal("BEFORE"))])
    alerts = start()
    one, last = a_signal("BTCUSDT"), a_signal("BTCUSDT", id="last")
    old = a_signal("BTCUSDT", id="old", close_time_ms=one.close_time_ms - 200_000)
    broken = Record(SIGNALS.name, b"BTCUSDT", b'{"id": 7}', one.close_time_ms)
    publish(module_broker.bootstrap_servers, [record(one), record(one), record(old), broken, record(last)])
    eventually(came(hook, key(last)), SOON_S, "the last signal is posted")
    assert [posted.key for posted in of_kind(hook, "signal")] == [key(one), key(last)]
    posted = of_kind(hook, "signal")[0]
    assert posted.message["event"] == orjson.loads(encode_event(one))
    assert posted.message["sent_ms"] >= one.close_time_ms
    assert posted.headers["X-Klinestream-Signature"] == "sha256=" + hmac.new(KEY.encode(), posted.body, hashlib.sha256).hexdigest()
    assert (alerts.metric("repeated_total"), alerts.metric("signals_too_old_total"), alerts.metric("unreadable_total")) == (1, 1, 1)
    found = eventually(lambda: [one for one in letters(module_broker) if one["source"] == SIGNALS.name], SOON_S, "a dead letter")
    assert [(one["reason"], base64.b64decode(str(one["raw"]))) for one in found] == [("id: expected text", b'{"id": 7}')]
    alerts.end()


def test_what_is_refused_is_tried_again_and_then_a_dead_letter(module_broker: TestBroker, hook: Receiver, start: Starting) -> None:
    """With its reason and its place; what comes after it is posted all the same, and a restart does not try it again."""
    hook.answer = lambda posted: Reply(500 if "REFUSED" in posted.key else 200)
    alerts = start()
    refused, taken = a_signal("REFUSED"), a_signal("TAKEN")
    publish(module_broker.bootstrap_servers, [record(refused)])
    eventually(came(hook, key(refused)), SOON_S, "the first attempt")
    publish(module_broker.bootstrap_servers, [record(taken)])
    eventually(came(hook, key(taken)), SOON_S, "the signal after it is posted")
    assert [posted.key for posted in of_kind(hook, "signal")] == [key(refused)] * 2 + [key(taken)]
    (letter,) = eventually(lambda: [one for one in letters(module_broker) if "webhook" in str(one["reason"])], SOON_S, "a dead letter")
    assert letter["reason"] == "webhook: http://127.0.0.1: expected a status of 2xx, got 500, 2 attempt(s)"
    assert letter["source"] == SIGNALS.name
    assert orjson.loads(base64.b64decode(str(letter["raw"]))) == orjson.loads(encode_event(refused))
    assert (alerts.metric('messages_total{fate="failed",kind="signal"}'), alerts.metric("attempts_failed_total")) == (1, 2)
    alerts.end()
    start().end()
    assert hook.keys().count(key(refused)) == 2


def test_a_gaps_states_come_once_each(module_broker: TestBroker, hook: Receiver, start: Starting) -> None:
    """In their order, whoever of two producers says them."""
    now_ms = int(time.time()) * SECOND_MS
    gap = gap_id("BTCUSDT", now_ms - 3000, now_ms)
    told = [
        FeedGap(gap, "BTCUSDT", state, producer, now_ms - 3000, now_ms, 0, "none", False, None, "silence", now_ms)
        for state in (GapState.DETECTED, GapState.DEFERRED, GapState.REPAIRED)
        for producer in ("a", "b")
    ]
    alerts = start()
    publish(module_broker.bootstrap_servers, map(record, told))
    eventually(came(hook, f"{gap}:repaired"), SOON_S, "the last state is posted")
    posted = of_kind(hook, "gap")
    assert [one.key for one in posted] == [f"{gap}:detected", f"{gap}:deferred", f"{gap}:repaired"]
    assert posted[0].message["event"] == orjson.loads(encode_event(told[0]))
    alerts.end()


def told_up_to(broker: TestBroker) -> int:
    """How many signals the newest position has behind it, all partitions together."""
    with closing(Topic(broker.bootstrap_servers, PIPELINE_EVENTS.name)) as topic:
        return sum(map(int, re.findall(rf"{SIGNALS.name}/\d+:(\d+)", topic.values()[-1]["detail"])))


def held(broker: TestBroker) -> int:
    """How many signals there are."""
    with closing(Topic(broker.bootstrap_servers, SIGNALS.name)) as topic:
        return len(topic.read())


def test_a_restart_goes_on_and_posts_nothing_twice(module_broker: TestBroker, hook: Receiver, start: Starting) -> None:
    """After a clean end and after kill -9: what came meanwhile is posted, what was posted is not, though it is written again."""
    first, second, third, fourth = (a_signal("BTCUSDT", id=f"restart:{number}") for number in range(4))
    alerts = start()
    publish(module_broker.bootstrap_servers, [record(first)])
    eventually(came(hook, key(first)), SOON_S, "the first is posted")
    alerts.end()
    publish(module_broker.bootstrap_servers, [record(second), record(first)])
    alerts = start()
    eventually(came(hook, key(second)), SOON_S, "the one that came meanwhile is posted")
    publish(module_broker.bootstrap_servers, [record(third)])
    eventually(came(hook, key(third)), SOON_S, "the third is posted")
    eventually(lambda: told_up_to(module_broker) == held(module_broker), SOON_S, "the position is told")
    alerts.kill()
    alerts = start()
    publish(module_broker.bootstrap_servers, [record(third), record(fourth)])
    eventually(came(hook, key(fourth)), SOON_S, "the fourth is posted")
    assert [posted.key for posted in of_kind(hook, "signal")] == [key(one) for one in (first, second, third, fourth)]
    alerts.end()


def test_data_that_grows_old_is_told_and_its_end_too(module_broker: TestBroker, hook: Receiver, start: Starting) -> None:
    """Once each, though alerts are started again in between; both messages name the last kline before the silence."""
    alerts = start()
    last_ms = feed(module_broker)
    stale, fresh = f"crypto_kline_data:{last_ms}:stale", f"crypto_kline_data:{last_ms}:fresh"
    eventually(came(hook, stale), SOON_S, "stale data is told")
    assert int(time.time() * SECOND_MS) - last_ms >= STALE_AFTER_S * SECOND_MS
    assert alerts.metric("data_stale") == 1
    alerts.end()
    # The other client library: both must let go of what they were assigned for one question.
    alerts = start("confluent-kafka")
    eventually(lambda: feed(module_broker) and came(hook, fresh)(), SOON_S, "fresh data is told")
    told = [one.message["event"] for one in of_kind(hook, "stale") if one.key in (stale, fresh)]
    assert [(one["state"], one["since"]) for one in told] == [("stale", last_ms), ("fresh", last_ms)]
    assert told[0]["newest"] == last_ms < told[1]["newest"]
    alerts.end()


def feed(broker: TestBroker) -> int:
    """One kline of right now; its close time."""
    opened_ms = int(time.time()) * SECOND_MS - SECOND_MS
    publish(broker.bootstrap_servers, [record_of(kline(open_time_ms=opened_ms, close_time_ms=opened_ms + 999))])
    return opened_ms + 999
