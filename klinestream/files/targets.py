"""Where imported rows go: topics, or the imported part of the archive."""

import time
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Protocol

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from klinestream.archive.bulk.rows import array, ints
from klinestream.archive.bulk.store import About, Kept, Source, Store
from klinestream.archive.bulk.tables import common_rows
from klinestream.archive.bulk.taking import CANDLES_FOLDER, KEYS, SECONDS_FOLDER
from klinestream.archive.files import date_of
from klinestream.files.events import archived_trades, candle_records, candle_table, kline_records, kline_table, trade_records
from klinestream.files.names import TRADES
from klinestream.files.ordering import Place, places
from klinestream.market.errors import ConfigError
from klinestream.market.intervals import DAY_MS
from klinestream.market.topics import BY_NAME, CANDLE_HISTORY, KLINES, Topic
from klinestream.market.topics import TRADES as TRADE_TOPIC
from klinestream.runtime.kafka import Publisher, Reader, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.topic_admin import TopicAdmin

_CLIENT_ID = "klinestream-import"
_FLUSH_S = 120.0
_POLL_S = 1.0
_SILENT_POLLS = 10
_FOREVER_MS = 36_500 * DAY_MS
_MARGIN_MS = 3_600_000
_NOT_COMPARED = {"last_trade_id", "origin", "source", "proof", "revision", "complete", "klines"}


@dataclass(frozen=True, slots=True)
class Form:
    """What rows are of."""

    kind: str
    interval: str
    length_ms: int
    source: str

    @property
    def topic(self) -> Topic:
        """Where such records go."""
        return TRADE_TOPIC if self.kind == TRADES else KLINES if self.interval == "1s" else CANDLE_HISTORY


@dataclass(slots=True)
class Taken:
    """What became of rows."""

    there: int = 0
    """Were there already."""
    conflicts: list[Place] = field(default_factory=list)
    """Say other than what is there, which stays."""


class Target(Protocol):
    """Takes rows in order."""

    def begin(self, first_ms: int, position: dict[str, int]) -> None:
        """Before the first stretch that isn't done; `first_ms` is its first row's time, `position` where the one before ended."""

    def put(self, rows: pl.DataFrame) -> Taken:
        """Take all of a stretch's rows of some symbols, wholly when this returns."""

    def position(self) -> dict[str, int]:
        """Where to go on from, after a stretch."""

    def finish(self, names: list[str], rows: int, position: dict[str, int]) -> None:
        """All was put: so many rows of the files of these names; `position` is that after the last stretch, which another run may
        have put."""

    def close(self) -> None:
        """Let go, finished or not."""


class Topics:
    """A `Target`: topics of the import's own, or those of the live feed.

    Per symbol a topic is in order; so a row counts as there already if the topic's newest one is as late, or later.
    """

    def __init__(self, kafka: KafkaConfig, form: Form, *, is_new: bool, is_live: bool) -> None:
        """Makes the topics where they are the import's own: not `is_live`, whatever prefix the live ones have.

        Raises BrokerError; and ConfigError where its own ones hold records though the import `is_new`.
        """
        self._form = form
        self._is_live = is_live
        if not self._is_live:
            _make_topics(kafka, form.topic, is_new=is_new)
        self._publisher: Publisher = open_publisher(kafka, _CLIENT_ID)
        self._reader: Reader = open_reader(kafka, _CLIENT_ID)
        self._newest: dict[str, tuple[int, int]] = {}

    def begin(self, first_ms: int, position: dict[str, int]) -> None:
        """Look up what is there: of each symbol the newest record since the position, or since the first row's time."""
        oldest_ms = time.time_ns() // 1_000_000 - self._form.topic.retention_ms + _MARGIN_MS
        if self._is_live and first_ms < oldest_ms:
            raise ConfigError(
                f"rows from {date_of(first_ms)} on are older than {self._form.topic.name} keeps records: the broker would delete them at "
                "once; give a --prefix, whose topics keep them, or take --to archive"
            )
        topic = self._form.topic.name
        starts = {int(partition): offset for partition, offset in position.items()} or dict(self._reader.offsets_at(topic, first_ms))
        ends = {partition: end for partition, (_, end) in self._reader.bounds(topic).items() if starts.get(partition, end) < end}
        self._reader.assign({(topic, partition): starts[partition] for partition in ends})
        silent = 0
        # A topic may end with the markers of transactions, which no reader ever sees.
        while ends and silent < _SILENT_POLLS:
            found = self._reader.poll(_POLL_S)
            silent = 0 if found else silent + 1
            for record in found:
                self._remember(record.value)
                if record.offset + 1 >= ends.get(record.partition, 0):
                    ends.pop(record.partition, None)

    def _remember(self, value: bytes | None) -> None:
        try:
            found = orjson.loads(value or b"")
            if self._form.topic is CANDLE_HISTORY:
                if found["i"] != self._form.interval:
                    return
                at = found["rows"][-1][0], 0
            else:
                at = (found["T"], found["f"]) if self._form.kind == TRADES else (found["t"], 0)
            self._newest[found["s"]] = max(self._newest.get(found["s"], at), at)
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            return  # no record of ours; its readers will tell of it

    def put(self, rows: pl.DataFrame) -> Taken:
        """See Target. Raises DeliveryError."""
        form = self._form
        fresh = rows.filter(self._is_later()) if self._newest else rows
        if form.topic is CANDLE_HISTORY:
            records = candle_records(fresh, form.interval, form.length_ms)
        elif form.kind == TRADES:
            records = trade_records(fresh, form.source)
        else:
            records = kline_records(fresh, form.source)
        for record in records:
            self._publisher.publish(record)
        self._publisher.flush(_FLUSH_S)
        return Taken(len(rows) - len(fresh))

    def _is_later(self) -> pl.Expr:
        """Than the newest record of its symbol."""
        times = {symbol: at for symbol, (at, _) in self._newest.items()}
        ids = {symbol: number for symbol, (_, number) in self._newest.items()}
        at = pl.col("symbol").replace_strict(times, default=-1, return_dtype=pl.Int64)
        number = pl.col("symbol").replace_strict(ids, default=-1, return_dtype=pl.Int64)
        time_ms = pl.col("time_us") // 1000
        later = time_ms > at
        return later | ((time_ms == at) & (pl.col("first_id") > number)) if self._form.kind == TRADES else later

    def position(self) -> dict[str, int]:
        """See Target."""
        return {str(partition): end for partition, (_, end) in self._reader.bounds(self._form.topic.name).items()}

    def finish(self, names: list[str], rows: int, position: dict[str, int]) -> None:
        """See Target: records say themselves what they are."""

    def close(self) -> None:
        """See Target."""
        self._publisher.close(_FLUSH_S)
        self._reader.close()


def _make_topics(kafka: KafkaConfig, wanted: Topic, *, is_new: bool) -> None:
    with TopicAdmin(kafka) as admin:
        # What is imported is old: these topics keep records whatever their age.
        admin.create([replace(each, retention_ms=_FOREVER_MS) if each.cleanup == "delete" else each for each in BY_NAME.values()])
        there = admin.positions([wanted])[wanted.name].records
    if is_new and there:
        name = f"{kafka.topic_prefix}{wanted.name}"
        raise ConfigError(f"expected {name} to hold nothing yet, it holds {there:,} records: choose another --prefix")


class Archive:
    """A `Target`: tables beside those of the exchange's bulk files, each there as a whole or not at all."""

    def __init__(self, url: str, form: Form, identity: str) -> None:
        """Raises ArchiveError, also while another one writes to it."""
        self._store, self._form = Store(url), form
        self._lock = self._store.files.lock()
        self._store.files.sweep_aside()
        self._source = Source(f"{form.source}-{identity}", identity)
        self._places: set[str] = set()

    def begin(self, first_ms: int, position: dict[str, int]) -> None:  # noqa: ARG002  # see Target
        """See Target: the position tells the places that were written."""
        self._places |= set(position)

    def put(self, rows: pl.DataFrame) -> Taken:
        """See Target. Raises ArchiveError."""
        taken = Taken()
        is_candles = self._form.topic is CANDLE_HISTORY
        span = pl.from_epoch(pl.col("time_us"), "us").dt.strftime("%Y-%m" if is_candles else "%Y-%m-%d")
        parts = rows.with_columns(span.alias("_span")).partition_by("symbol", "_span", as_dict=True)
        for (symbol, date), mine in parts.items():
            self._merge(*_table(mine.drop("_span"), self._form, f"{symbol}", f"{date}"), taken)
        return taken

    def _merge(self, place: str, rows: pl.DataFrame, table: pa.Table, taken: Taken) -> None:
        """Put rows beside those that are there, which stay; `table` is what the rows are kept as."""
        key = KEYS[place.partition("/")[0]]
        there, about = self._store.read(place), About("file", (self._source,))
        if there is not None:
            known, mine = common_rows(ints(there.table, key), ints(table, key))
            differ = _differing(there.table.take(known), table.take(mine))
            taken.there += len(mine) - int(differ.sum())
            taken.conflicts += places(rows[mine[differ]])
            lacking = np.ones(len(table), np.bool_)
            lacking[mine] = False
            table = pa.concat_tables([there.table, table.filter(pa.array(lacking))]).sort_by(key).combine_chunks()
            about = there.about.and_of(about)
        if there is None or len(there.table) != len(table):
            self._store.put_aside(place, Kept(table, about))
            self._store.settle([place])
        self._places.add(place)

    def position(self) -> dict[str, int]:
        """See Target."""
        return dict.fromkeys(sorted(self._places), 0)

    def finish(self, names: list[str], rows: int, position: dict[str, int]) -> None:
        """Say what was imported, and what came of it."""
        held = {place: self._store.hash_of(place) for place in sorted({*position, *self._places})}
        told = {"version": 1, "file": self._source.file, "sha256": self._source.sha256, "files": names, "rows": rows, "places": held}
        self._store.files.put(f"_sources/{self._source.file}.json", orjson.dumps(told, option=orjson.OPT_INDENT_2))

    def close(self) -> None:
        """See Target."""
        self._lock.release()


def _table(rows: pl.DataFrame, form: Form, symbol: str, date: str) -> tuple[str, pl.DataFrame, pa.Table]:
    """Where rows of a symbol and day, or month, are kept; the rows in the table's order; and the table."""
    if form.kind != TRADES:
        rows = rows.sort("time_us")
        if form.topic is CANDLE_HISTORY:
            place = f"{CANDLES_FOLDER}/interval={form.interval}/{symbol}-{date}.parquet"
            return place, rows, candle_table(rows, form.interval, form.length_ms)
        return f"{SECONDS_FOLDER}/date={date}/{symbol}.parquet", rows, kline_table(rows, form.source)
    rows = rows.sort("first_id")
    folder, table = archived_trades(rows)
    return f"{folder}/date={date}/{symbol}.parquet", rows, table


def _differing(there: pa.Table, new: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows of the same keys say another thing of the market; where a row came from, and what proves it, is no such thing."""
    found = np.zeros(len(new), np.bool_)
    for name in new.column_names:
        if name in _NOT_COMPARED:
            continue
        ours, theirs = array(there, name), array(new, name)
        if not ours.equals(theirs):
            both = pc.and_(ours.is_valid(), theirs.is_valid())
            found |= pc.and_(both, pc.fill_null(pc.not_equal(ours, theirs), fill_value=False)).to_numpy(zero_copy_only=False)
    return found


def identity_of(told: object) -> str:
    """A short digest of what an import is of."""
    return blake2b(orjson.dumps(told), digest_size=8).hexdigest()
