"""The windows job: `crypto_kline_data` in, `crypto_data_aggregated` out.

    Kafka, raw bytes ─► SQL: a batch a partition, every few ms ─► Parse ─► key by partition ─► Windows (the engine)
    Kafka, raw text  ◄─ SQL: a line a record                   ◄────────── blocks of text ◄──────────┘

Submitted by `klinestream job windows`, or by `flink run -py jobs/windows.py` on any cluster whose Python has klinestream.
"""

import argparse
from pathlib import Path
from string import Template

from pyflink.common import Types
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.checkpointing_mode import CheckpointingMode
from pyflink.table import StreamTableEnvironment

from jobs.operators import BLOCK, PARSED, Parse, Windows
from klinestream.market.topics import (
    DEAD_LETTERS,
    KLINE_REPAIRS,
    KLINES,
    LATE_DATA,
    PIPELINE_EVENTS,
    PUBLISHED_HEADER,
    SCHEMA_HEADER,
    SCHEMA_VERSION,
    WINDOWS,
)
from klinestream.market.windows import WindowSettings
from klinestream.runtime.config import Config, load
from klinestream.runtime.flink_kafka import connector_options
from klinestream.runtime.kafka import open_reader

NAME = "klinestream windows"
GROUP = "klinestream-windows"
SQL = Path(__file__).parent / "sql"
OUTPUTS = (WINDOWS, DEAD_LETTERS, LATE_DATA, KLINE_REPAIRS, PIPELINE_EVENTS)
STARTUP_MODES = {"earliest": "earliest-offset", "latest": "latest-offset", "committed": "group-offsets"}


def sql(name: str, **values: object) -> str:
    """A statement from jobs/sql with its values put in."""
    return Template((SQL / f"{name}.sql").read_text()).substitute(values)


def build(config: Config, partitions: int) -> None:
    """Build the job and submit it."""
    settings = config.windows
    environment = StreamExecutionEnvironment.get_execution_environment()
    environment.set_parallelism(settings.parallelism)
    environment.enable_checkpointing(settings.checkpoint_interval_ms, CheckpointingMode.EXACTLY_ONCE)
    tables = StreamTableEnvironment.create(environment)
    options = tables.get_config()
    options.set("pipeline.name", NAME)
    options.set("table.local-time-zone", "UTC")
    # A bundle holds a batch back until it is full or this old; the default of 1000 ms would be a second of latency.
    options.set("python.fn-execution.bundle.time", "1")
    # Without it each line of a block is handed on with a copy of the whole block: most of the job's time, and all of its garbage.
    options.set("pipeline.object-reuse", "true")
    connection = connector_options(config.kafka)
    tables.execute_sql(sql("klines", topic=KLINES.name, startup_mode=STARTUP_MODES[settings.start], group=GROUP, connection=connection))
    batches = tables.to_data_stream(tables.sql_query(sql("batches", batch_s=f"{settings.batch_ms / 1000:.3f}")))
    engine = WindowSettings(settings.size_ms, settings.slide_ms, settings.rsi_period, settings.remembered_s)
    blocks = (
        batches.map(Parse(partitions), PARSED)
        .name("parse")
        .uid("parse")
        .key_by(lambda parsed: parsed[0], Types.INT())
        .process(Windows(engine), BLOCK)
        .name("windows")
        .uid("windows")
    )
    tables.create_temporary_view("blocks", tables.from_data_stream(blocks))
    outputs = ";".join(topic.name for topic in OUTPUTS)
    tables.execute_sql(sql("records", topics=outputs, delivery=settings.delivery, transactions=GROUP, connection=connection))
    headers = {"schema_header": SCHEMA_HEADER, "schema_version": SCHEMA_VERSION, "published_header": PUBLISHED_HEADER}
    tables.execute_sql(sql("publish", **headers))


def main() -> None:
    """Read the configuration and submit the job."""
    parser = argparse.ArgumentParser(description="The windows job of klinestream.")
    parser.add_argument("--config", type=Path, help="configuration file; klinestream.toml if it is there")
    config = load(parser.parse_args().config)
    reader = open_reader(config.kafka, f"{GROUP}-submit")
    try:
        partitions = len(reader.partitions(KLINES.name))
    finally:
        reader.close()
    build(config, partitions)


if __name__ == "__main__":
    main()
