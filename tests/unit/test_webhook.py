"""What is posted and how often, what waits, what is told at all, and what of the address shows."""

import hashlib
import hmac
import logging
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from klinestream.market.codec import encode_event
from klinestream.market.errors import ConfigError, RecordError
from klinestream.market.events import FeedGap, GapState, Side, Signal, SignalState, gap_id
from klinestream.market.signals import signal_id
from klinestream.market.topics import FEED_GAPS, PUBLISHED_HEADER, SIGNALS
from klinestream.runtime import config as configuration
from klinestream.runtime.alert_messages import Chooser, Freshness, Passed, stale_since
from klinestream.runtime.alert_position import Position, told
from klinestream.runtime.alerts import run
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from klinestream.runtime.sections import SignalsConfig
from klinestream.runtime.webhook import Fate, Kind, Message, Outbox, Settled, Webhook
from klinestream.stack.checks import ports
from klinestream.stack.jobs import Cluster
from klinestream.stack.layout import Layout
from klinestream.stack.plans import plans
from tests.eventually import eventually
from tests.receiver import Receiver, Reply, receiver

NOW_MS = 1_700_000_100_000
CLOSE_MS = NOW_MS - 20_001
SOON_S = 10.0


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as served:
        yield served


Making = Callable[..., Webhook]


@pytest.fixture
def webhook(hook: Receiver) -> Iterator[Making]:
    """Makes webhooks that post to `hook`."""
    made: list[Webhook] = []

    def make(*, attempts: int = 3, stopping: threading.Event | None = None, **options: Any) -> Webhook:
        options = {"now_ms": lambda: NOW_MS, "first_wait_s": 0.01} | options
        made.append(Webhook(hook.url, attempts, stopping or threading.Event(), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def message(key: str = "one", until_ms: int | None = None) -> Message:
    return Message(key, Kind.GAP, b'{"gap":1}', until_ms=until_ms)


def statuses(*codes: int, **headers: str) -> Callable[[object], Reply]:
    """One after the other, the last for good."""
    left = list(codes)
    return lambda _: Reply(left.pop(0) if len(left) > 1 else left[0], {name.replace("_", "-"): value for name, value in headers.items()})


def test_a_message_is_posted_once_as_json(hook: Receiver, webhook: Making) -> None:
    """Its body tells kind, event and when; its key stands in a header; without a secret there is no signature."""
    assert webhook().post(message()) == Settled(message(), Fate.POSTED)
    (posted,) = hook.posted
    assert posted.message == {"kind": "gap", "event": {"gap": 1}, "sent_ms": NOW_MS}
    assert (posted.headers["Content-Type"], posted.key) == ("application/json", "one")
    assert "X-Klinestream-Signature" not in posted.headers


def test_the_signature_is_made_over_the_body_as_sent(hook: Receiver, webhook: Making) -> None:
    """HMAC-SHA256 in hex, as a receiver computes it."""
    key = "hush"
    webhook(secret=key).post(message())
    (posted,) = hook.posted
    assert posted.headers["X-Klinestream-Signature"] == "sha256=" + hmac.new(key.encode(), posted.body, hashlib.sha256).hexdigest()


def test_keys_of_any_script_fit_into_a_header(hook: Receiver, webhook: Making) -> None:
    """They are percent-encoded; those of plain symbols stay as they are."""
    webhook().post(message("BTCUSDT:1m:rsi:buy:1700000000000:fired:0"))
    webhook().post(message("币\r\n"))
    assert hook.keys() == ["BTCUSDT:1m:rsi:buy:1700000000000:fired:0", "%E5%B8%81%0D%0A"]


@pytest.mark.parametrize("passing", [500, 503, 429, 408, 0])
def test_what_may_pass_is_tried_again_with_the_same_key_and_body(hook: Receiver, webhook: Making, passing: int) -> None:
    """Server errors, asked-for waits and cut connections."""
    hook.answer = statuses(passing, passing, 200)
    result = webhook().post(message())
    assert result is not None
    assert result.fate is Fate.POSTED
    assert len(hook.posted) == 3
    assert len({(one.key, one.body) for one in hook.posted}) == 1


def test_attempts_are_bounded(hook: Receiver, webhook: Making) -> None:
    """After the last one the message has failed, with the reason, and without the address's secrets."""
    hook.answer = statuses(500)
    failed = []
    result = webhook(attempts=2, failed_once=lambda: failed.append(1)).post(message())
    assert result is not None
    assert (result.fate, len(hook.posted), len(failed)) == (Fate.FAILED, 2, 2)
    assert result.reason == "http://127.0.0.1: expected a status of 2xx, got 500, 2 attempt(s)"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 302])
def test_what_will_not_pass_is_tried_once(hook: Receiver, webhook: Making, status: int) -> None:
    """A refusal, and an address that wants us elsewhere: nothing is posted to where it points."""
    hook.answer = statuses(status, Location=hook.url)
    result = webhook().post(message())
    assert result is not None
    assert (result.fate, len(hook.posted)) == (Fate.FAILED, 1)


@pytest.mark.parametrize(
    ("text", "least_s", "most_s"),
    [("2", 2, 2), ("9999", 30, 30), (formatdate(NOW_MS / 1000 + 7, usegmt=True), 6, 7), ("soon", 0, 0.01)],
    ids=["seconds", "too many", "a date", "a word"],
)
def test_a_receiver_says_how_long_to_wait_within_a_bound(hook: Receiver, webhook: Making, text: str, least_s: float, most_s: float) -> None:
    """Retry-After in seconds or as a date is obeyed, up to 30 s; what can't be understood is passed over."""
    waits: list[float] = []

    class Waits(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return True

    hook.answer = statuses(429, 200, Retry_After=text)
    assert webhook(stopping=Waits()).post(message()) == Settled(message(), Fate.POSTED)
    assert least_s <= waits[0] <= most_s


def test_what_is_too_old_when_its_turn_comes_is_not_posted(hook: Receiver, webhook: Making) -> None:
    """A message of a signal knows until when it is of use."""
    result = webhook().post(message(until_ms=NOW_MS - 1))
    assert result is not None
    assert (result.fate, hook.posted) == (Fate.EXPIRED, [])
    assert webhook().post(message(until_ms=NOW_MS)) == Settled(message(until_ms=NOW_MS), Fate.POSTED)


def test_an_end_leaves_a_message_that_was_not_taken_unsettled(hook: Receiver, webhook: Making) -> None:
    """It is posted after the next start; no further attempt is made."""
    stopping = threading.Event()

    def refuse(_: object) -> Reply:
        stopping.set()
        return Reply(500)

    hook.answer = refuse
    assert webhook(stopping=stopping).post(message()) is None
    assert len(hook.posted) == 1


def test_nothing_logs_more_of_the_address_than_scheme_and_host(hook: Receiver, webhook: Making, caplog: pytest.LogCaptureFixture) -> None:
    """Neither we nor the library, on no level, whatever fails."""
    caplog.set_level(logging.DEBUG)
    hook.answer = statuses(500, 0, 307, Location=hook.url)
    with capture_logs() as logs:
        result = webhook().post(message())
    shown = f"{caplog.text} {logs} {result}"
    assert "http://127.0.0.1" in shown
    assert not [text for text in ("token-of-mine", "services", "hush") if text in shown]


def test_the_outbox_keeps_the_order_and_never_waits() -> None:
    """While a post takes its time the queue fills, and then the oldest are dropped and come out as such."""
    going_on, stopping, begun = threading.Event(), threading.Event(), threading.Event()

    def post(message: Message) -> Settled:
        begun.set()
        going_on.wait(SOON_S)
        return Settled(message, Fate.POSTED)

    outbox = Outbox(post, stopping, most=3)
    outbox.put(message("0"))
    assert begun.wait(SOON_S)
    for number in range(1, 6):
        outbox.put(message(str(number)))
    assert len(outbox) == 3
    going_on.set()
    found: list[Settled] = []

    def all_came() -> bool:
        found.extend(outbox.settled())
        return len(found) == 6

    eventually(all_came, SOON_S, "all messages settle")
    assert [one.message.key for one in found if one.fate is Fate.DROPPED] == ["1", "2"]
    assert [one.message.key for one in found if one.fate is Fate.POSTED] == ["0", "3", "4", "5"]
    outbox.close(SOON_S)


def test_the_outbox_hands_over_what_ended_its_thread() -> None:
    """A fault in the program must not leave messages waiting for ever."""

    def post(_: Message) -> Settled:
        raise ZeroDivisionError

    outbox = Outbox(post, threading.Event())
    outbox.put(message())

    def raised() -> bool:
        try:
            outbox.settled()
        except ZeroDivisionError:
            return True
        return False

    assert eventually(raised, SOON_S, "the fault comes out")
    outbox.close(SOON_S)


def signal(**changes: object) -> Signal:
    values: dict[str, object] = {
        "id": signal_id("BTCUSDT", "1m", "rsi", Side.BUY, CLOSE_MS - 59_999), "symbol": "BTCUSDT", "interval": "1m",
        "open_time_ms": CLOSE_MS - 59_999, "close_time_ms": CLOSE_MS, "side": Side.BUY, "rule": "rsi", "state": SignalState.FIRED,
        "price": 50.5, "value": 28.4, "limit": 30.0, "reason": "RSI 14 fell to 28.4, below 30", "since_ms": 0, "revision": 0,
    }  # fmt: skip  # as they belong together
    return Signal(**(values | changes))  # type: ignore[arg-type]  # the caller names fields


def record(event: object, offset: int = 0, published_ms: int = CLOSE_MS + 50) -> Record:
    topic = FEED_GAPS.name if isinstance(event, FeedGap) else SIGNALS.name
    headers = ((PUBLISHED_HEADER, b"%d" % published_ms),)
    return Record(topic, b"BTCUSDT", encode_event(event), CLOSE_MS, headers, partition=0, offset=offset)


def gap(state: GapState = GapState.DETECTED, producer: str = "a") -> FeedGap:
    start, end = 1_700_000_000_000, 1_700_000_003_000
    return FeedGap(gap_id("BTCUSDT", start, end), "BTCUSDT", state, producer, start, end, 0, "none", False, None, "silence", NOW_MS)


def test_a_signal_is_told_once_however_often_it_is_written() -> None:
    """Its key is id, state and revision; another run's record of it says nothing new, a repair's does."""
    chooser = Chooser(120.0)
    told_ = chooser.message(record(signal()), NOW_MS)
    assert isinstance(told_, Message)
    assert (told_.kind, told_.key) == (Kind.SIGNAL, f"{signal().id}:fired:0")
    assert orjson.loads(told_.event) == orjson.loads(encode_event(signal()))
    assert told_.until_ms == CLOSE_MS + 120_000
    assert chooser.message(record(signal(since_ms=7), 1), NOW_MS) is Passed.REPEATED
    assert isinstance(chooser.message(record(signal(revision=9), 2), NOW_MS), Message)


def test_signals_of_old_candles_are_not_told() -> None:
    """The candle's close counts, not when the record was written."""
    late_ms = CLOSE_MS + 120_001
    assert Chooser(120.0).message(record(signal(), published_ms=late_ms), late_ms) is Passed.TOO_OLD
    assert isinstance(Chooser(120.0).message(record(signal()), late_ms - 1), Message)


def test_the_withdrawal_of_a_told_signal_is_told_however_late() -> None:
    """Also after a restart; that of one which nobody was told of is not."""
    later_ms = CLOSE_MS + 3_600_000
    withdrawal = record(signal(state=SignalState.WITHDRAWN, revision=3), 1, later_ms)
    chooser, restarted, stranger = Chooser(120.0), Chooser(120.0), Chooser(120.0)
    chooser.message(record(signal()), NOW_MS)
    restarted.remember(record(signal()))
    stranger.remember(record(signal(), published_ms=later_ms))
    for one in (chooser, restarted):
        found = one.message(withdrawal, later_ms)
        assert isinstance(found, Message)
        assert found.until_ms is None
    assert stranger.message(withdrawal, later_ms) is Passed.TOO_OLD


def test_each_state_of_a_gap_is_told_once_whoever_says_it() -> None:
    """Two producers that miss the same seconds make one message a state."""
    chooser = Chooser(120.0)
    found = [chooser.message(record(gap(state, producer)), NOW_MS) for state in (GapState.DETECTED, GapState.REFILLED) for producer in "ab"]
    assert [one.key if isinstance(one, Message) else one for one in found] == [
        "BTCUSDT:1700000000000-1700000003000:detected",
        Passed.REPEATED,
        "BTCUSDT:1700000000000-1700000003000:refilled",
        Passed.REPEATED,
    ]


def test_what_was_dealt_with_before_a_restart_is_not_told_again() -> None:
    """Records that are only remembered count as known, unreadable ones are passed over."""
    chooser = Chooser(120.0)
    chooser.remember(record(gap()))
    chooser.remember(Record(SIGNALS.name, b"x", b"{", 0))
    assert chooser.message(record(gap()), NOW_MS) is Passed.REPEATED


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "no value"),
        (b"{", "not JSON"),
        (encode_event(signal(side="hold")), "side: expected buy, sell"),
        (encode_event(signal(state="rumoured")), "state: expected fired, withdrawn"),
    ],
)
def test_what_is_no_signal_is_refused(value: bytes | None, said: str) -> None:
    """RecordError with a short reason."""
    with pytest.raises(RecordError, match=said):
        Chooser(120.0).message(Record(SIGNALS.name, b"BTCUSDT", value, 0), NOW_MS)


def test_memory_is_bounded() -> None:
    """The oldest are forgotten: a repeat of one is told again, with the same key."""
    chooser = Chooser(120.0, remembered=2)
    for revision in range(3):
        chooser.message(record(signal(revision=revision)), NOW_MS)
    assert chooser.message(record(signal(revision=1)), NOW_MS) is Passed.REPEATED
    assert isinstance(chooser.message(record(signal(revision=0)), NOW_MS), Message)


def test_silence_and_its_end_are_told_once_each() -> None:
    """The id of a silence is the last kline before it, whoever looks and whenever."""
    freshness = Freshness(5.0)
    assert not freshness.turned(True, 0.0)
    assert not freshness.turned(False, 4.0)
    assert freshness.turned(False, 5.0)
    stale = freshness.turn(NOW_MS - 6000, NOW_MS)
    assert stale.key == f"crypto_kline_data:{NOW_MS - 6000}:stale"
    assert stale_since(stale) == NOW_MS - 6000
    assert not freshness.turned(False, 60.0)
    assert freshness.turned(True, 61.0)
    fresh = freshness.turn(NOW_MS + 60_000, NOW_MS + 60_500)
    assert orjson.loads(fresh.event) == {
        "id": f"crypto_kline_data:{NOW_MS - 6000}", "state": "fresh", "since": NOW_MS - 6000, "newest": NOW_MS + 60_000,
        "time": NOW_MS + 60_500,
    }  # fmt: skip  # one event
    assert stale_since(fresh) is None
    assert not freshness.turned(True, 62.0)


def test_a_silence_that_nobody_watched_counts_from_the_next_look() -> None:
    """After a start, or a broker that was away, the feed gets its time; a silence told of before is not told again."""
    freshness = Freshness(5.0)
    assert not freshness.turned(False, 100.0)
    freshness.unseen()
    assert not freshness.turned(False, 106.0)
    assert freshness.turned(False, 111.0)
    assert not Freshness(5.0, stale_since_ms=1).turned(False, 200.0)


def test_the_position_stands_before_the_first_message_that_waits() -> None:
    """Whatever was read or settled after it; and what is told of it is understood again, by the same receiver."""
    position = Position({("crypto_signals", 0): 10, ("crypto_feed_gaps", 3): 4}, 1_700_000_000_999)
    for offset, waits in ((10, False), (11, True), (12, True), (13, False)):
        position.take(("crypto_signals", 0), offset, waits=waits)
    position.settle(("crypto_signals", 0), 12)
    assert position.settled() == {("crypto_signals", 0): 11, ("crypto_feed_gaps", 3): 4}
    found = told(position.tell("https://hooks.example#1"), "https://hooks.example#1")
    assert found == Position({("crypto_signals", 0): 11, ("crypto_feed_gaps", 3): 4}, 1_700_000_000_999)
    position.settle(("crypto_signals", 0), 11)
    assert position.settled()[("crypto_signals", 0)] == 14
    assert told(position.tell("https://hooks.example#1"), "https://hooks.example#2") is None
    assert told("BTCUSDT 1-2 up to offset 7: repaired", "BTCUSDT") is None


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("url", ["hooks.example/token-of-mine", "ftp://hooks.example/token-of-mine", "https:///token-of-mine"])
def test_an_address_that_is_none_is_refused_without_being_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ConfigError names the key; what else stands in its section, a secret from the environment too, doesn't show."""
    monkeypatch.setenv("KLINESTREAM_SIGNALS__WEBHOOK_SECRET", "hush")
    with pytest.raises(ConfigError, match="webhook_url must be an address") as raised:
        configuration.load(None, signals={"webhook_url": url})
    assert "token-of-mine" not in str(raised.value)
    assert "hush" not in str(raised.value)


@pytest.mark.usefixtures("empty_folder")
def test_the_secret_is_refused_in_the_file() -> None:
    """As every secret it comes from the environment alone."""
    configuration.DEFAULT_FILE.write_text('[signals]\nwebhook_secret = "hush"\n')
    with pytest.raises(ConfigError, match=r"signals\.webhook_secret stands in .*set KLINESTREAM_SIGNALS__WEBHOOK_SECRET") as raised:
        configuration.load()
    assert "hush" not in str(raised.value)


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    "faulty", [{"rules": ["rsi", "rsi"]}, {"rsi_low": 60.0, "hysteresis": 41.0}, {"rsi_high": 31.0, "hysteresis": 32.0}]
)
def test_rules_that_can_never_fire_again_or_fire_twice_are_refused(faulty: dict[str, object]) -> None:
    """ConfigError says which key."""
    with pytest.raises(ConfigError, match=r"rules must hold each rule once|hysteresis must leave"):
        configuration.load(None, signals=faulty)


def test_the_local_stack_runs_alerts_only_where_there_is_an_address(tmp_path: Path) -> None:
    """Without one it is no part, and needs no port."""
    with_url = Config(signals=SignalsConfig(webhook_url="http://hooks.example"))
    for config, there in ((Config(), False), (with_url, True)):
        parts = [plan.name for plan in plans(config, Layout.of(tmp_path), Cluster("http://127.0.0.1:1"), with_standin=False)]
        assert ("alerts" in parts, "signals.metrics_port" in ports(config, with_standin=False)) == (there, there)


@pytest.mark.usefixtures("empty_folder")
def test_alerts_without_an_address_say_what_is_missing() -> None:
    """ConfigError names the key."""
    with pytest.raises(ConfigError, match=r"expected signals\.webhook_url to say where"):
        run(Config())
