"""What the jobs' dataflows have in common: how lines come in, and how blocks of text become records.

Kafka, raw bytes ─► SQL: a batch a partition, every few ms ─► Python … ─► blocks of text ─► SQL: a line a record ─► Kafka
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import Any

from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.checkpointing_mode import CheckpointingMode
from pyflink.table import StreamTableEnvironment
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from klinestream.market.errors import BrokerError
from klinestream.market.topics import KLINES, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION, Topic
from klinestream.runtime.config import Config, load
from klinestream.runtime.flink_kafka import connector_options
from klinestream.runtime.kafka import open_reader
from klinestream.runtime.sections import CandlesConfig, KafkaConfig, WindowsConfig

SQL = Path(__file__).parent / "sql"
STARTUP_MODES = {"earliest": "earliest-offset", "latest": "latest-offset", "committed": "group-offsets"}


def sql(name: str, **values: object) -> str:
    """A statement from jobs/sql with its values put in."""
    return Template((SQL / f"{name}.sql").read_text()).substitute(values)


def run(build: Callable[[Config, int], None], description: str, group: str) -> None:
    """Read the command line and the configuration, and submit what `build` builds for so many partitions of the klines."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, help="configuration file; klinestream.toml if it is there")
    parser.add_argument("--wait-for-topics", type=float, default=0.0, metavar="SECONDS", help="topics may be in the making; 0 by default")
    arguments = parser.parse_args()
    config = load(arguments.config)
    asking = Retrying(
        retry=retry_if_exception_type(BrokerError), stop=stop_after_delay(arguments.wait_for_topics), wait=wait_fixed(0.2), reraise=True
    )
    build(config, asking(partitions_of, config.kafka, KLINES, group))


def partitions_of(kafka: KafkaConfig, topic: Topic, group: str) -> int:
    """How many partitions a topic has: the brokers' word, since a symbol's place depends on it. Raises BrokerError."""
    reader = open_reader(kafka, f"{group}-submit")
    try:
        return len(reader.partitions(topic.name))
    finally:
        reader.close()


class Dataflow:
    """One job on its way from topics to topics. PyFlink ships no types: its streams and tables are Any here."""

    def __init__(self, config: Config, settings: WindowsConfig | CandlesConfig, name: str, group: str) -> None:
        """`name` is what the job calls itself, `group` what Kafka knows it by."""
        self._settings = settings
        self._group = config.kafka.topic_prefix + group
        self._prefix = config.kafka.topic_prefix
        self._connection = connector_options(config.kafka)
        environment = StreamExecutionEnvironment.get_execution_environment()
        environment.set_parallelism(settings.parallelism)
        environment.enable_checkpointing(settings.checkpoint_interval_ms, CheckpointingMode.EXACTLY_ONCE)
        self._tables: Any = StreamTableEnvironment.create(environment)
        self._options = options = self._tables.get_config()
        options.set("pipeline.name", self._prefix + name)
        options.set("table.local-time-zone", "UTC")
        # A bundle holds a batch back until it is full or this old; the default of 1000 ms would be a second of latency.
        options.set("python.fn-execution.bundle.time", "1")
        # Without it each line of a block is handed on with a copy of the whole block: most of the job's time, and all of its garbage.
        options.set("pipeline.object-reuse", "true")

    def keep_large_state(self) -> None:
        """For a state of tens of megabytes, of which little changes: on disk, and a checkpoint saves what has changed since the last.

        Writing it has a price for each bundle, so that all partitions' batches, which come together, are to be one.
        """
        self._options.set("python.fn-execution.bundle.time", "20")
        self._options.set("state.backend.type", "rocksdb")
        self._options.set("execution.checkpointing.incremental", "true")

    def batches(self, topic: Topic, batch_ms: int, start: str) -> Any:
        """A stream of (partition, lines, offsets, times): what a partition brought within some milliseconds."""
        table = f"lines_of_{topic.name}"
        source = {
            "topic": self._prefix + topic.name,
            "startup_mode": STARTUP_MODES[start],
            "group": self._group,
            "connection": self._connection,
        }
        self._tables.execute_sql(sql("lines", table=table, **source))
        return self._tables.to_data_stream(self._tables.sql_query(sql("batches", table=table, batch_s=f"{batch_ms / 1000:.3f}")))

    def publish(self, blocks: Any, topics: Sequence[Topic]) -> None:
        """Write a stream of blocks to the topics that they name, and submit the job."""
        self._tables.create_temporary_view("blocks", self._tables.from_data_stream(blocks))
        names = ";".join(self._prefix + topic.name for topic in topics)
        delivery = {"delivery": self._settings.delivery, "transactions": self._group, "connection": self._connection}
        self._tables.execute_sql(sql("records", topics=names, **delivery))
        headers = {"schema_header": SCHEMA_HEADER, "schema_version": SCHEMA_VERSION, "published_header": PUBLISHED_HEADER}
        self._tables.execute_sql(sql("publish", prefix=self._prefix, **headers))
