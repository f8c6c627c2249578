"""`klinestream repair` on a real broker: klines that come late lead to the right windows, once and while it follows."""

import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from klinestream.market.batch import from_klines
from klinestream.market.codec import encode_event, encode_kline
from klinestream.market.events import SECOND_MS, FeedGap, GapState, Kline, gap_id
from klinestream.market.topics import FEED_GAPS, KLINE_REPAIRS, WINDOWS
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.runtime.kafka import Record, open_reader
from tests.eventually import eventually
from tests.integration.running_repair import Following, Repair
from tests.klines import kline
from tests.stack import TestBroker
from tests.topics import kafka, publish, record_of, windows_by_identity, windows_by_revision

SOON_S = 60.0
WARM_UP_S = 153
READY_S = 150
NOW_S = int(time.time())


def series(symbol: str, seconds: range, price: int = 50) -> list[Kline]:
    """Klines of some seconds, counted from 1000 s ago."""
    start_ms = (NOW_S - 1000) * SECOND_MS
    return [
        kline(
            symbol,
            price=10**8 * (price + 7 * second % 29) + 1,
            open_time_ms=start_ms + second * SECOND_MS,
            close_time_ms=start_ms + second * SECOND_MS + 999,
            base_volume=10**7 * (second % 17),
        )
        for second in seconds
    ]


def computed(klines: list[Kline]) -> dict[tuple[str, int], bytes]:
    """What the job makes of klines."""
    rows = WindowEngine(WindowSettings()).step(from_klines(klines)).windows
    return {(window.symbol, window.end_ms): encode_event(window) for row in rows for window in row.events()}


def feed(broker: TestBroker, klines: list[Kline]) -> None:
    """Klines into the feed, and the windows that the job publishes of them."""
    windows = computed(klines)
    records = [Record(WINDOWS.name, symbol.encode(), value, end - 1) for (symbol, end), value in windows.items()]
    publish(broker.bootstrap_servers, [*map(record_of, klines), *records])


def late(broker: TestBroker, klines: list[Kline]) -> None:
    """Klines into the repairs."""
    publish(broker.bootstrap_servers, [Record(KLINE_REPAIRS.name, k.symbol.encode(), encode_kline(k), k.close_time_ms) for k in klines])


@pytest.fixture
def following(module_broker: TestBroker, tmp_path: Path) -> Iterator[Following]:
    started = Repair(module_broker, tmp_path).follow()
    yield started
    assert started.end() == 0, (tmp_path / "repair.log").read_text()


class Windows:
    """The windows' topic as a reader has it."""

    def __init__(self, broker: TestBroker) -> None:
        self._reader = open_reader(kafka(broker.bootstrap_servers), "test-reader")
        self._reader.assign({(WINDOWS.name, partition): 0 for partition in self._reader.partitions(WINDOWS.name)})
        self.records: list[Record] = []

    def read(self) -> list[Record]:
        while got := self._reader.poll(0.2):
            self.records += got
        return self.records

    def republished(self, symbol: str) -> dict[tuple[str, int], bytes]:
        """What counts of a symbol's windows, of those with a revision."""
        shown = windows_by_identity(self.read())
        return {identity: value for identity, value in shown.items() if identity[0] == symbol and orjson.loads(value)["revision"]}

    def close(self) -> None:
        self._reader.close()


def right(symbol: str, whole: list[Kline], seconds: range, since: int | None = None) -> dict[tuple[str, int], dict[str, object]]:
    """Windows that these seconds complete, from a replay of the whole series from a warm-up before; without revisions."""
    found = computed(whole[seconds.start - WARM_UP_S if since is None else since :])
    wanted = [(symbol, whole[second].open_time_ms + end) for second in seconds for end in (1000, 1500)]
    return {identity: orjson.loads(found[identity]) for identity in wanted}


def without_revision(values: dict[tuple[str, int], bytes]) -> dict[tuple[str, int], dict[str, object]]:
    return {identity: orjson.loads(value) | {"revision": 0} for identity, value in values.items()}


def test_once_repairs_what_is_there_and_again_changes_nothing(module_broker: TestBroker, tmp_path: Path) -> None:
    """A filled hole and a correction: the windows of a replay, with a revision; a second run gives the same records."""
    whole = series("ONEUSDT", range(600))
    feed(module_broker, whole[:300] + whole[305:])
    late(module_broker, whole[300:305])
    corrected = series("TWOUSDT", range(500))
    false = series("TWOUSDT", range(200, 201), price=70)
    feed(module_broker, corrected[:200] + false + corrected[201:])
    late(module_broker, [corrected[200]])
    open_ended = series("SIXUSDT", range(210))
    feed(module_broker, open_ended[:200] + open_ended[202:])
    late(module_broker, open_ended[200:202])
    by_job = 2 * (595 + 500 + 208)

    told = Repair(module_broker, tmp_path).once("--dry-run")
    assert "8 seconds repaired" in told
    told = Repair(module_broker, tmp_path).once()
    assert "8 seconds repaired" in told
    assert "waits for the feed" in told
    windows = Windows(module_broker)
    one, two = right("ONEUSDT", whole, range(300, 305 + READY_S)), right("TWOUSDT", corrected, range(200, 200 + WARM_UP_S))
    six = right("SIXUSDT", open_ended, range(200, 210))
    eventually(lambda: len(windows.read()) == by_job + len(one) + len(two) + len(six), SOON_S, "what the dry run did not publish")
    found = windows.republished("ONEUSDT")
    assert without_revision(found) == one
    assert without_revision(windows.republished("TWOUSDT")) == two
    assert without_revision(windows.republished("SIXUSDT")) == six
    revisions = [orjson.loads(found["ONEUSDT", k.open_time_ms + 1000])["revision"] for k in whole[300:310]]
    assert revisions == [revisions[0] + step for step in (0, 1, 2, 3, 4, 4, 4, 4, 4, 4)]

    records, distinct = len(windows.records), windows_by_revision(windows.records)
    Repair(module_broker, tmp_path).once("--symbol", "oneusdt", "--since", "1d")
    eventually(lambda: len(windows.read()) == records + len(one), SOON_S, "the same windows come again")
    assert windows_by_revision(windows.records) == distinct
    assert "nothing to repair" in Repair(module_broker, tmp_path).once("--since", "10s")
    windows.close()


def test_following_repairs_as_klines_come_and_survives_the_broker(module_broker: TestBroker, tmp_path: Path, following: Following) -> None:
    """Windows are published as soon as their klines are there, through a restart of the broker; what is finished stays finished."""
    eventually(following.is_well, SOON_S, "it follows")
    whole = series("FOLUSDT", range(700))
    feed(module_broker, whole[:300] + whole[303:350])
    windows = Windows(module_broker)
    late(module_broker, whole[300:303])
    first = right("FOLUSDT", whole, range(300, 350))
    eventually(lambda: without_revision(windows.republished("FOLUSDT")) == first, SOON_S, "what the feed has come to is repaired")

    feed(module_broker, whole[303:600])
    module_broker.kill()
    module_broker.start()
    late(module_broker, whole[400:401])  # as the feed has it: changes nothing, but says that something came
    told(module_broker, whole[400:401])
    all_of_it = right("FOLUSDT", whole, range(300, 303 + READY_S))
    eventually(lambda: without_revision(windows.republished("FOLUSDT")) == all_of_it, SOON_S, "all is repaired")
    eventually(lambda: following.metric("clusters_finished_total") > 0, SOON_S, "it is told")
    assert following.end() == 0

    records = sum(record.key == b"FOLUSDT" for record in windows.read())
    again = Repair(module_broker, tmp_path).follow()
    try:
        other = series("LSTUSDT", range(400))
        feed(module_broker, other[:100] + other[101:])
        late(module_broker, other[100:101])
        last = right("LSTUSDT", other, range(100, 101 + READY_S), since=0)
        eventually(lambda: without_revision(windows.republished("LSTUSDT")) == last, SOON_S, "it goes on")
    finally:
        assert again.end() == 0
    assert sum(record.key == b"FOLUSDT" for record in windows.read()) == records
    windows.close()


def told(broker: TestBroker, klines: list[Kline]) -> None:
    """The ledger's word that these klines are all."""
    symbol, span = klines[0].symbol, (klines[0].open_time_ms, klines[-1].open_time_ms + SECOND_MS)
    gap = FeedGap(gap_id(symbol, *span), symbol, GapState.REPAIRED, "test", *span, len(klines), "rest", True, None, "", NOW_S * SECOND_MS)
    publish(broker.bootstrap_servers, [Record(FEED_GAPS.name, symbol.encode(), encode_event(gap), gap.time_ms)])
