"""ClickHouse's own engine on a real broker's topics, by the SQL that we print: killed, restarted, and fed with garbage."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from klinestream.market.tables import TABLES, Table
from klinestream.runtime.kafka import Record
from klinestream.stores.clickhouse.script import statements
from klinestream.stores.clickhouse.source import Source
from tests.clickhouse import ClickHouse, table_rows
from tests.eventually import eventually
from tests.stack import TestBroker
from tests.store_records import Row, broken, event_of, fold, record
from tests.topics import Topic, publish

SOON_S = 60.0
LINES = 240
CONFIG = Path(__file__).parents[2] / "deploy" / "clickhouse" / "kafka.xml"


@pytest.fixture(scope="module")
def engine(module_broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """An engine with the configuration that we deploy, and the address of the broker in its environment."""
    address = {"KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS": module_broker.bootstrap_servers}
    made = ClickHouse(tmp_path_factory.mktemp("clickhouse"), CONFIG, address)
    made.start()
    yield made
    made.stop()


def lines(table: Table, chosen: random.Random, now_ms: int) -> list[bytes]:
    """Records of a table, some of them twice, and lines that are none."""
    made = [record(table, chosen, now_ms) for _ in range(LINES)]
    made += chosen.sample(made, LINES // 4) + [broken(line, chosen) for line in made]
    chosen.shuffle(made)
    return made


def held(broker: TestBroker, table: Table) -> dict[tuple[int, int], bytes]:
    """All that the table's topic holds, by partition and offset."""
    topic = Topic(broker.bootstrap_servers, table.topic.name)
    found = {(each.partition, each.offset): each.value or b"" for each in topic.read()}
    topic.close()
    return found


def dead(engine: ClickHouse, table: Table) -> dict[tuple[int, int], bytes]:
    sql = "SELECT partition, offset, hex(raw) AS raw FROM klinestream.dead_lines FINAL WHERE topic = {topic:String}"
    return {(row["partition"], row["offset"]): bytes.fromhex(row["raw"]) for row in engine.rows(sql, topic=table.topic.name)}


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_tables_are_what_the_topics_hold_through_kills(kills: int, module_broker: TestBroker, engine: ClickHouse) -> None:
    """Repeats, revisions and garbage, the engine killed between, all of it read once more: each table is the fold of its topic.

    Row by row and value by value, floats to the last bit; and just those lines are dead that the codec takes for no record either.
    """
    chosen, now_ms = random.Random(7), time.time_ns() // 1_000_000
    for statement in statements():
        engine.run(statement)
    for _ in range(kills):
        for table in TABLES:
            records = [Record(table.topic.name, b"%d" % chosen.randrange(9), line, now_ms) for line in lines(table, chosen, now_ms)]
            publish(module_broker.bootstrap_servers, records)
        time.sleep(chosen.uniform(0, 0.5))  # at any moment of reading, not at one that a condition tells of
        engine.kill()
        engine.start()
    wanted = {table.name: held(module_broker, table) for table in TABLES}
    _equal(engine, wanted)
    # The same records once more, as a group sees them that has lost its offsets.
    _read_again(engine, wanted)
    _equal(engine, wanted)


def _equal(engine: ClickHouse, wanted: dict[str, dict[tuple[int, int], bytes]]) -> None:
    for table in TABLES:
        topic = wanted[table.name]
        no_records = {place: line for place, line in topic.items() if event_of(table, line) is None}
        right = fold(table, topic.values())
        assert right
        assert no_records

        def all_there(
            table: Table = table, right: dict[Any, list[Row]] = right, no_records: dict[tuple[int, int], bytes] = no_records
        ) -> bool:
            assert dead(engine, table) == no_records
            assert agree(table_rows(engine, table), right)
            return True

        eventually(all_there, SOON_S, f"{table.name} is what its topic holds")


def agree(found: dict[Any, Row], right: dict[Any, list[Row]]) -> bool:
    assert found.keys() == right.keys()
    return all(found[identity] in rows for identity, rows in right.items())


def _read_again(engine: ClickHouse, wanted: dict[str, dict[tuple[int, int], bytes]]) -> None:
    engine.run("DROP DATABASE klinestream_intake SYNC")
    for statement in statements(source=Source(group="again")):
        engine.run(statement)
    right = {table.topic.name: len(wanted[table.name]) for table in TABLES}
    # A late heartbeat moves a consumer's partitions, and what was not committed is read once more.
    eventually(
        lambda: all(_committed(engine).get(topic, 0) >= count for topic, count in right.items()),
        SOON_S,
        "all was read and stored once more",
    )


def _committed(engine: ClickHouse) -> dict[str, int]:
    """Topic → how many records this process has read of it. What follows a commit is another poll: before one all rows are stored."""
    sql = """SELECT assignments.topic[1] AS topic, sum(num_messages_read) AS read FROM system.kafka_consumers
        WHERE num_commits > 0 AND last_poll_time > last_commit_time GROUP BY topic"""
    return {row["topic"]: row["read"] for row in engine.rows(sql)}
