"""The PostgreSQL store on a real broker and a real database: killed in turn under load, replayed, doubled, and fed with garbage."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from psycopg.errors import UndefinedTable

from klinestream.market.intervals import DAY_MS
from klinestream.market.ledger import Ledger
from klinestream.market.partitions import partition_of
from klinestream.market.tables import BY_NAME, TABLES, Table
from klinestream.market.topics import DEAD_LETTERS, FEED_GAPS, INDICATORS, PIPELINE_EVENTS, PREDICTIONS, SIGNALS
from klinestream.runtime.kafka import Record, open_publisher
from klinestream.runtime.topic_admin import TopicAdmin
from klinestream.stores.postgres.merging import store as store_batch
from klinestream.stores.postgres.migrating import migrate
from klinestream.stores.postgres.partitions import Partitions
from klinestream.stores.postgres.rows import Shape, batch_of
from tests.eventually import eventually
from tests.integration.running_postgres import TestPostgres, running_postgres
from tests.integration.running_store import Store
from tests.stack import TestBroker
from tests.store_lines import best, line, record, shown
from tests.topics import Topic, kafka, publish

SOON_S = 40.0
EVER = {"POSTGRES__BATCH_S": "0.05"}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPostgres]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


class Flow:
    """Publishes lines of all tables, with garbage among them, until it is stopped."""

    def __init__(self, broker: TestBroker, seed: int) -> None:
        self._publisher = open_publisher(kafka(broker.bootstrap_servers), "test-stored")
        self._chosen = random.Random(seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow")
        self._thread.start()

    def stop(self) -> None:
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()
            self._publisher.close(60)

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            for one in some(self._chosen, 10):
                self._publisher.publish(one)
            if self._chosen.random() < 0.1:
                self._publisher.publish(Record(SIGNALS.name, b"garbage", self._chosen.choice((None, b"\xff no line", b"[1]")), 0))


def some(chosen: random.Random, each: int, minutes: int = 60) -> list[Record]:
    """Lines of every table."""
    now_ms = time.time_ns() // 1_000_000
    return [record(table, line(table, chosen, now_ms, minutes)) for table in TABLES for _ in range(each)]


def due(broker: TestBroker, table: Table) -> dict[tuple[object, ...], dict[str, object]]:
    """What a table has to hold, from all that its topic holds."""
    topic = Topic(broker.bootstrap_servers, table.topic.name)
    lines = [orjson.loads(one.value) for one in topic.read() if one.value and one.value.startswith(b"{")]
    topic.close()
    return best(table, lines)


def held(postgres: TestPostgres, table: Table, namespace: str) -> dict[tuple[object, ...], dict[str, object]]:
    columns = ", ".join(column.name for column in table.columns)
    return shown(table, postgres.rows(f"SELECT {columns} FROM {table.name}", namespace))  # noqa: S608  # names of ours


def assert_equal(broker: TestBroker, postgres: TestPostgres, namespace: str) -> None:
    """Every table holds what its topic gives, and nothing else, column by column."""
    for table in TABLES:
        wanted, found = due(broker, table), held(postgres, table, namespace)
        assert found.keys() == wanted.keys(), table.name
        assert found == wanted, table.name


def caught_up(broker: TestBroker, postgres: TestPostgres, namespace: str) -> bool:
    """The positions are at the topics' ends."""
    ends = {}
    with TopicAdmin(kafka(broker.bootstrap_servers)) as admin:
        for table, position in admin.positions([table.topic for table in TABLES]).items():
            ends[table] = position.records
        ids = set(
            admin.identities([table.topic for table in TABLES]).values()
        )  # a topic that was made anew has positions of the old one too
    try:
        positions = postgres.rows("SELECT topic, topic_id, next_offset FROM positions", namespace)
    except UndefinedTable:
        return False
    stored = defaultdict[str, int](int)
    for topic, topic_id, offset in positions:
        stored[topic] += offset if topic_id in ids else 0
    assert {topic: stored[topic] for topic in ends} == ends
    return True


def versions(postgres: TestPostgres, namespace: str) -> dict[str, list[tuple[object, ...]]]:
    """Where each row stands and which transaction wrote it: a row that is written anew, as it was or not, has another version."""
    of_table = "SELECT tableoid::regclass::text, ctid::text, xmin::text FROM {} ORDER BY 1, 2"
    return {table.name: postgres.rows(of_table.format(table.name), namespace) for table in TABLES}


def due_records(postgres: TestPostgres, namespace: str) -> int:
    """How many records the positions speak of."""
    [[records]] = postgres.rows("SELECT sum(next_offset)::bigint FROM positions", namespace)
    return int(records)


@pytest.mark.parametrize("turns", [1, pytest.param(8, marks=pytest.mark.soak)])
def test_tables_equal_topics_after_kills_of_each(turns: int, module_broker: TestBroker, postgres: TestPostgres, tmp_path: Path) -> None:
    """Database, sink and broker are killed with -9 in turn while records flow, two sinks side by side: in the end each table holds what its
    topic gives, row by row, and a replay from the beginning changes no row."""
    space = f"kills_{turns}"
    store, second = (Store(module_broker, postgres, tmp_path, space, **EVER) for _ in range(2))
    flow = Flow(module_broker, turns)
    chosen = random.Random(turns)

    def grows() -> None:
        before = store.metric("rows_total")
        eventually(lambda: store.metric("rows_total") > before, SOON_S, f"further rows are stored: {store.log.read_text()[-2000:]}")
        time.sleep(chosen.uniform(0, 0.3))  # at any moment of a batch, not at one that a condition tells of

    try:
        store.start()
        for _ in range(turns):
            grows()
            postgres.kill()
            eventually(lambda: store.health()[0] == 503, SOON_S, "the sink says that the database is away")
            postgres.start()
            second.start()
            grows()
            store.kill()
            store.start()
            grows()
            module_broker.kill()
            module_broker.start()
            grows()
            second.kill()
        flow.stop()
        eventually(lambda: caught_up(module_broker, postgres, space), SOON_S, "all is stored")
        assert store.health() == (200, "ok\n")
        assert store.end() == 0
        assert_equal(module_broker, postgres, space)
        before, records = versions(postgres, space), due_records(postgres, space)
        store.start("--from-beginning")
        eventually(lambda: store.metric("records_total") >= records, SOON_S, "all is read again")
        assert store.end() == 0
        assert versions(postgres, space) == before
    finally:
        flow.stop()
        store.kill()
        second.kill()


@pytest.fixture(scope="module")
def store(module_broker: TestBroker, postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One that runs, over a schema of its own; it has stored all that the topics held before."""
    made = Store(module_broker, postgres, tmp_path_factory.mktemp("store"), **EVER)
    try:
        made.start()
        eventually(lambda: caught_up(module_broker, postgres, made.namespace), SOON_S, "all is stored")
        yield made
    finally:
        made.kill()


def test_what_can_t_be_stored_is_a_dead_letter(module_broker: TestBroker, postgres: TestPostgres, store: Store) -> None:
    """What is no line, and what only PostgreSQL refuses, goes to crypto_dead_letters with its place and reason; all around it is stored.

    All lines that it would refuse are known before; here a trigger of its owner's refuses one more.
    """
    now_ms = time.time_ns() // 1_000_000
    table = BY_NAME["signals"]
    good = [line(table, random.Random(seed), now_ms) | {"id": f"good-{seed}"} for seed in range(40)]
    with postgres.connect(store.namespace) as connection:
        connection.execute(
            b"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here' USING ERRCODE = '22000'; END $$"
        )
        connection.execute(b"CREATE TRIGGER refuses BEFORE INSERT ON signals FOR EACH ROW WHEN (NEW.id = 'bad') EXECUTE FUNCTION refuse()")
    refused = good[0] | {"id": "bad"}
    too_long, no_text = good[0] | {"id": "€" * 400}, good[0] | {"id": "zero", "reason": "a \x00 byte"}
    values = [orjson.dumps(one) for one in (*good[:20], refused, *good[20:30], too_long, no_text, *good[30:])]
    publish(module_broker.bootstrap_servers, [Record(SIGNALS.name, b"one", value, 0) for value in (*values, b"{")])
    eventually(lambda: caught_up(module_broker, postgres, store.namespace), SOON_S, f"all is passed: {store.log.read_text()[-3000:]}")
    stored = {name for (name,) in postgres.rows("SELECT id FROM signals", store.namespace)}
    assert {one["id"] for one in good} <= stored
    assert not {"bad", "€" * 400, "zero"} & stored
    letters = Topic(module_broker.bootstrap_servers, DEAD_LETTERS.name)
    told = [value for value in letters.values() if value["source"] == SIGNALS.name]
    reasons = [str(value["reason"]) for value in told]
    letters.close()
    assert "PostgreSQL: not here" in reasons
    assert any("names and ids of up to 1000 bytes" in reason for reason in reasons)
    assert any("without the character NUL" in reason for reason in reasons)
    assert [value["reason"] for value in told if value["raw"] == "ew=="] == ["not JSON"], "once, though the batch was refused and split"
    assert store.metric("dead_letters_total") >= 4
    with postgres.connect(store.namespace) as connection:
        connection.execute(b"DROP FUNCTION refuse CASCADE")


def test_a_topic_made_anew_is_read_from_its_beginning(module_broker: TestBroker, postgres: TestPostgres, store: Store) -> None:
    """A topic deleted and made anew while the sink runs is found to be another one: its records are stored from the first on, those of the
    old one stay, and it is counted."""
    table, now_ms = BY_NAME["predictions"], time.time_ns() // 1_000_000
    publish(
        module_broker.bootstrap_servers, [record(table, line(table, random.Random(n), now_ms) | {"inputs": f"old{n}"}) for n in range(50)]
    )
    eventually(lambda: caught_up(module_broker, postgres, store.namespace), SOON_S, "the old ones are stored")
    old = set(held(postgres, table, store.namespace))
    admin = KafkaAdminClient(bootstrap_servers=module_broker.bootstrap_servers)
    admin.delete_topics([PREDICTIONS.name])
    admin.close()
    with TopicAdmin(kafka(module_broker.bootstrap_servers)) as making:
        eventually(lambda: making.create([PREDICTIONS]), SOON_S, "the topic is made anew")
    fresh = [line(table, random.Random(n), now_ms) | {"model": f"new{n}"} for n in range(5)]
    publish(module_broker.bootstrap_servers, [record(table, one) for one in fresh])
    wanted = best(table, fresh).keys() | old
    eventually(lambda: held(postgres, table, store.namespace).keys() == wanted, SOON_S, f"all stand: {store.log.read_text()[-2000:]}")
    assert store.metric("topics_made_anew_total") == 1


def test_records_dropped_before_they_were_stored_are_counted_and_told(
    module_broker: TestBroker, postgres: TestPostgres, store: Store
) -> None:
    """What retention took while the sink was away is in its log, its metrics, and on crypto_pipeline_events; it goes on after it."""
    table, now_ms = BY_NAME["indicators"], time.time_ns() // 1_000_000
    assert store.end() == 0
    lines = [line(table, random.Random(n), now_ms) | {"s": "ONE", "revision": 7 + n} for n in range(30)]
    publish(module_broker.bootstrap_servers, [Record(INDICATORS.name, b"one", orjson.dumps(one), 0) for one in lines])
    admin = KafkaAdminClient(bootstrap_servers=module_broker.bootstrap_servers)
    partition = partition_of("one", INDICATORS.partitions)
    place = TopicPartition(INDICATORS.name, partition)
    end = admin.list_partition_offsets({place: OffsetSpec.LATEST})[place].offset
    admin.delete_records({place: end})
    admin.close()
    store.start()
    eventually(lambda: caught_up(module_broker, postgres, store.namespace), SOON_S, "its position is past what was dropped")
    assert store.metric("offsets_lost_total") == 30
    assert store.end() == 0
    store.start()
    eventually(lambda: store.health() == (200, "ok\n"), SOON_S, "it stores again")
    assert store.metric("offsets_lost_total") == 0
    events = Topic(module_broker.bootstrap_servers, PIPELINE_EVENTS.name)
    told = [value["detail"] for value in events.values() if value["event"] == "offsets_skipped"]
    events.close()
    assert [detail for detail in told if detail.startswith(f"{INDICATORS.name}, partition {partition}") and "30 lost" in detail] == told[
        -1:
    ]


def test_the_view_of_gaps_says_what_the_ledger_says(module_broker: TestBroker, postgres: TestPostgres, store: Store) -> None:
    """gap_states has of each gap the record that the ledger counts, from records of several producers in any order."""
    chosen, now_ms = random.Random(3), time.time_ns() // 1_000_000
    lines = [line(BY_NAME["gaps"], chosen, now_ms, minutes=3) | {"s": "GAPUSDT"} for _ in range(300)]
    lines = [one | {"gap": f"GAPUSDT:{one['from']}-{one['to']}"} for one in lines]
    # A producer says once that a gap is settled, and again and again how far an open one is.
    once = {(one["gap"], one["state"], one["producer"]): one for one in lines if one["state"] not in {"detected", "deferred"}}
    lines = [*once.values(), *(one for one in lines if one["state"] in {"detected", "deferred"})]
    chosen.shuffle(lines)
    publish(module_broker.bootstrap_servers, [Record(FEED_GAPS.name, b"one", orjson.dumps(one), 0) for one in lines])
    eventually(lambda: caught_up(module_broker, postgres, store.namespace), SOON_S, "all is stored")
    ledger, topic = Ledger(), Topic(module_broker.bootstrap_servers, FEED_GAPS.name)
    for one in topic.read():
        if b"GAPUSDT" in (one.value or b""):
            ledger.read(one.value)
    topic.close()
    wanted = {(gap.record.gap, gap.record.state, gap.record.producer, gap.record.time_ms, gap.open, gap.filled) for gap in ledger.gaps()}
    query = "SELECT gap, state, producer, (extract(epoch FROM time) * 1000)::bigint, open, filled FROM gap_states WHERE symbol = 'GAPUSDT'"
    assert set(postgres.rows(query, store.namespace)) == wanted


def test_what_a_table_lacks_is_found(postgres: TestPostgres, store: Store) -> None:
    """`verify` says how many rows are missing and how many differ, with exit code 1; before, that all are there, with 0."""
    code, said = store.ask("verify", "--table", "aggregates")
    assert (code, said.splitlines()[-1]) == (0, "the tables hold what the topics hold")
    postgres.rows("DELETE FROM signals WHERE id = 'good-3' RETURNING id", store.namespace)
    postgres.rows("UPDATE signals SET reason = 'another' WHERE id IN ('good-4', 'good-5') RETURNING id", store.namespace)
    code, said = store.ask("verify", "--table", "signals", "--table", "aggregates")
    rows = {cells[1]: cells[5:7] for line in said.splitlines() if len(cells := line.replace("│", "|").replace(" ", "").split("|")) > 7}
    # The other one that is missing is the one that the trigger refused.
    assert (code, rows["signals"], rows["aggregates"]) == (1, ["2", "2"], ["0", "0"]), said


def test_the_password_stands_in_no_log_and_no_answer(postgres: TestPostgres, store: Store) -> None:
    """Not when all is well, and not while the database is away."""
    postgres.kill()
    try:
        eventually(lambda: store.health()[0] == 503, SOON_S, "the sink says that the database is away")
        said = store.health()[1] + store.ask("status")[1]
    finally:
        postgres.start()
    assert "PostgreSQL gave no answer" in said
    assert postgres.password not in said + store.log.read_text()


def test_partitions_come_with_old_rows_and_go_with_their_days(postgres: TestPostgres) -> None:
    """Rows of any time get their partition; what is over is dropped whole, what is kept stays, and there is no default partition."""
    now_ms = time.time_ns() // 1_000_000
    windows = BY_NAME["windows"]
    shape = Shape(windows, 0)
    with postgres.connect() as connection:
        migrate(connection, "spans")
    with postgres.connect("spans") as connection:
        partitions = Partitions(connection)
        lines = [line(windows, random.Random(days), now_ms) | {"window_end": now_ms - days * DAY_MS} for days in (0, 3, 40, 700)]
        batch = batch_of(
            [Record(windows.topic.name, b"", orjson.dumps(one), 0, (), 0, 0) for one in lines], {windows.topic.name: shape}, now_ms
        )
        partitions.require(windows, map(shape.time, batch.rows["windows"].values()))
        store_batch(connection, {"windows": windows}, batch, {windows.topic.name: "id"})
        assert len(list(partitions.existing(windows))) == 4
        assert partitions.drop_expired(windows, 30, now_ms) == 2
        partitions.make_ahead(windows, now_ms)
        assert [begin for _, begin in partitions.existing(windows)] == [(now_ms // DAY_MS + days) * DAY_MS for days in (-3, 0, 1)]
        assert connection.execute("SELECT count(*) FROM windows").fetchone() == (2,)
        Partitions(connection).require(windows, [now_ms])


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_merge_of_the_database_is_the_law_s(postgres: TestPostgres, data: st.DataObject) -> None:
    """Any split, order and repetition of batches, merged by the real database, gives the table of all records at once."""
    now_ms = time.time_ns() // 1_000_000
    shapes = {table.topic.name: Shape(table, 0) for table in TABLES}
    chosen = random.Random(data.draw(st.integers(0, 2**32)))
    lines = {table.name: [line(table, chosen, now_ms, minutes=2) for _ in range(40)] for table in TABLES}
    records = [record(table, one) for table in TABLES for one in lines[table.name] * 2]
    chosen.shuffle(records)
    cuts = sorted({0, len(records), *(chosen.randrange(len(records)) for _ in range(6))})
    postgres.drop("law")
    with postgres.connect() as connection:
        migrate(connection, "law")
    with postgres.connect("law") as connection:
        partitions = Partitions(connection)
        for begin, end in pairwise(cuts):
            batch = batch_of(records[begin:end], shapes, now_ms)
            for name, rows in batch.rows.items():
                partitions.require(BY_NAME[name], map(shapes[BY_NAME[name].topic.name].time, rows.values()))
            store_batch(connection, BY_NAME, batch, {table.topic.name: table.name for table in TABLES})
    for table in TABLES:
        assert held(postgres, table, "law") == best(table, lines[table.name]), table.name
