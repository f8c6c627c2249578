"""Where imported rows go: topics, or the imported part of the archive."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol

import orjson
import polars as pl
import pyarrow as pa

from klinestream.archive.bulk.rows import array, ints
from klinestream.archive.bulk.store import About, Kept, Source, Store
from klinestream.archive.bulk.tables import AGG_TRADE_SCHEMA, TRADE_SCHEMA
from klinestream.archive.files import date_of
from klinestream.files.events import candle_records, candle_table, kline_records, kline_table, trade_records
from klinestream.files.names import TRADES
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


class Target(Protocol):
    """Takes rows in order, a stretch at a time."""

    def begin(self, first_ms: int, position: dict[str, int]) -> None:
        """Before the first stretch that isn't done; `position` is what `put` returned last."""

    def put(self, rows: pl.DataFrame) -> tuple[int, dict[str, int]]:
        """Take a stretch, wholly when this returns: how many rows were there already, and a position to go on from."""

    def close(self, names: list[str]) -> None:
        """All was put; `names` are those of the files."""


class Topics:
    """A `Target`: the topics of a prefix, or those of the live feed."""

    def __init__(self, kafka: KafkaConfig, form: Form, *, is_new: bool) -> None:
        """Makes the topics of a prefix. Raises BrokerError; and ConfigError where they hold records though the import `is_new`."""
        self._form = form
        if kafka.topic_prefix:
            with TopicAdmin(kafka) as admin:
                admin.create([replace(each, retention_ms=_FOREVER_MS) if each.cleanup == "delete" else each for each in BY_NAME.values()])
                there = admin.positions([form.topic])[form.topic.name].records
            if is_new and there:
                raise ConfigError(
                    f"expected {kafka.topic_prefix}{form.topic.name} to hold nothing yet, it holds {there:,} records: choose another --prefix"
                )
        self._is_live = not kafka.topic_prefix
        self._publisher: Publisher = open_publisher(kafka, _CLIENT_ID)
        self._reader: Reader = open_reader(kafka, _CLIENT_ID)
        self._newest: dict[str, int] = {}

    def begin(self, first_ms: int, position: dict[str, int]) -> None:
        """Look up what is there already: of each symbol the newest record since the position, or since the first row's time."""
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
            symbol, at = self._identity(found)
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            return
        self._newest[symbol] = max(self._newest.get(symbol, -1), at)

    def _identity(self, found: Mapping[str, Any]) -> tuple[str, int]:
        """What a record is in order of."""
        if self._form.topic is CANDLE_HISTORY:
            return (f"{found['s']} {found['i']}", found["rows"][-1][0])
        return found["s"], found["f"] if self._form.kind == TRADES else found["t"]

    def put(self, rows: pl.DataFrame) -> tuple[int, dict[str, int]]:
        """See Target. Raises DeliveryError."""
        form = self._form
        if form.topic is CANDLE_HISTORY:
            key, at = pl.col("symbol") + f" {form.interval}", pl.col("time_us") // 1000
        else:
            key, at = pl.col("symbol"), pl.col("first_id") if form.kind == TRADES else pl.col("time_us") // 1000
        newest = key.replace_strict(self._newest, default=-1, return_dtype=pl.Int64) if self._newest else pl.lit(-1)
        fresh = rows.filter(at > newest)
        match form.topic.name:
            case CANDLE_HISTORY.name:
                records = candle_records(fresh, form.interval, form.length_ms)
            case KLINES.name:
                records = kline_records(fresh, form.source)
            case _:
                records = trade_records(fresh, form.source)
        for record in records:
            self._publisher.publish(record)
        self._publisher.flush(_FLUSH_S)
        return len(rows) - len(fresh), {str(partition): end for partition, (_, end) in self._reader.bounds(form.topic.name).items()}

    def close(self, names: list[str]) -> None:
        """See Target."""
        self._publisher.close(_FLUSH_S)
        self._reader.close()


class Archive:
    """A `Target`: tables beside those of the exchange's bulk files, each there as a whole or not at all."""

    def __init__(self, url: str, form: Form, identity: str) -> None:
        """Raises ArchiveError, also while another one writes to it."""
        self._store, self._form, self._identity = Store(url), form, identity
        self._lock = self._store.files.lock()
        self._store.files.sweep_aside()
        self._source = Source(f"{form.source}-{identity}", identity)
        self._places: set[str] = set()

    def begin(self, first_ms: int, position: dict[str, int]) -> None:
        """See Target: a place that an import has written says so itself."""
        self._places |= set(position)

    def put(self, rows: pl.DataFrame) -> tuple[int, dict[str, int]]:
        """See Target. Raises ArchiveError."""
        there = 0
        day = pl.from_epoch(pl.col("time_us"), "us").dt.strftime("%Y-%m" if self._form.topic is CANDLE_HISTORY else "%Y-%m-%d")
        for (symbol, date), mine in rows.with_columns(day.alias("_day")).partition_by("symbol", "_day", as_dict=True).items():
            there += self._merge(*self._table(mine.drop("_day"), f"{symbol}", f"{date}"))
        return there, dict.fromkeys(self._places, 0)

    def _table(self, rows: pl.DataFrame, symbol: str, date: str) -> tuple[str, str, pa.Table]:
        """Place, the column that its rows are in order of, and the table."""
        form = self._form
        if form.topic is CANDLE_HISTORY:
            table = candle_table(rows.sort("time_us"), form.interval, form.length_ms)
            return f"{CANDLE_HISTORY.name}/interval={form.interval}/{symbol}-{date}.parquet", "open_time_ms", table
        if form.kind != TRADES:
            return f"{KLINES.name}/date={date}/{symbol}.parquet", "open_time_ms", kline_table(rows.sort("time_us"), form.source)
        are_aggregates = bool(rows["aggregate_id"].is_not_null().all())
        schema = AGG_TRADE_SCHEMA if are_aggregates else TRADE_SCHEMA
        found = rows.with_columns(
            (pl.col("aggregate_id") if are_aggregates else pl.col("first_id")).alias("id"),
            pl.col("first_id").alias("first_trade_id"),
            pl.col("last_id").alias("last_trade_id"),
            pl.lit(None, pl.Decimal(38, 8)).alias("quote_quantity"),
            pl.col("maker").alias("buyer_is_maker"),
        )
        table = found.sort("id").select(schema.names).to_arrow().cast(schema)
        return f"{'agg_trades' if are_aggregates else 'trades'}/date={date}/{symbol}.parquet", "id", table

    def _merge(self, place: str, key: str, table: pa.Table) -> int:
        """Put rows beside those that are there, which stay; returns how many were there."""
        there, about = self._store.read(place), About("file", (self._source,))
        count = 0
        if there is not None:
            known = pl.Series(ints(there.table, key))
            lacking = pl.Series(ints(table, key)).is_in(known.implode()).not_()
            count = len(table) - int(lacking.sum())
            table = pa.concat_tables([there.table, table.filter(lacking.to_arrow())]).sort_by(key)
            about = there.about.and_of(about)
        kept = Kept(table.combine_chunks(), about)
        if there is None or len(there.table) != len(table):
            self._store.put_aside(place, Kept(pa.table({n: array(kept.table, n) for n in table.column_names}, schema=table.schema), about))
            self._store.settle([place])
        self._places.add(place)
        return count

    def close(self, names: list[str]) -> None:
        """Say what was imported, and what came of it."""
        places = {place: self._store.hash_of(place) for place in sorted(self._places)}
        told = {"version": 1, "file": self._source.file, "sha256": self._identity, "files": names, "rows": None, "places": places}
        self._store.files.put(f"_sources/{self._source.file}.json", orjson.dumps(told, option=orjson.OPT_INDENT_2))
        self._lock.release()


def identity_of(told: object) -> str:
    """A short digest of what an import is of."""
    return blake2b(orjson.dumps(told), digest_size=8).hexdigest()
