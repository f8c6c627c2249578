"""The SQL for ClickHouse, as text: what stands under deploy/ is what the command prints, and what it must never hold isn't in it."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from klinestream.cli.main import app
from klinestream.market.errors import ConfigError
from klinestream.market.tables import BY_NAME, TABLES, Better
from klinestream.runtime.sections import KafkaConfig
from klinestream.stores.clickhouse import script as script_module
from klinestream.stores.clickhouse.schema import Place
from klinestream.stores.clickhouse.script import drops, script, statements
from klinestream.stores.clickhouse.source import COLLECTION, Source
from klinestream.stores.clickhouse.versions import version_of

DEPLOY = Path(__file__).parents[2] / "deploy" / "clickhouse"
DOCS = Path(__file__).parents[2] / "docs" / "clickhouse.md"
COMMANDS = re.findall(r"^klinestream store clickhouse(.*?)(?: [>|] .*)?$", DOCS.read_text(), re.MULTILINE)


def printed(*options: str) -> str:
    result = CliRunner().invoke(app, ["store", "clickhouse", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usefixtures("empty_folder")
def test_deployed_file_is_what_the_command_prints() -> None:
    """deploy/clickhouse/klinestream.sql stands as `klinestream store clickhouse > deploy/clickhouse/klinestream.sql` makes it."""
    assert (DEPLOY / "klinestream.sql").read_text() == printed() == script(statements())


@pytest.mark.usefixtures("empty_folder")
def test_no_secret_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What our own configuration says of users and passwords isn't in the SQL, whatever else of it is."""
    monkeypatch.setenv("KLINESTREAM_KAFKA__SASL_USERNAME", "alice")
    monkeypatch.setenv("KLINESTREAM_KAFKA__SASL_PASSWORD", "wonderland")
    monkeypatch.setenv("KLINESTREAM_KAFKA__TOPIC_PREFIX", "replayed.")
    sql = printed("--broker", "broker:9092")
    assert "'replayed.crypto_candles'" in sql
    assert "alice" not in sql
    assert "wonderland" not in sql


@pytest.mark.usefixtures("empty_folder")
def test_options_are_in_the_sql() -> None:
    """Database, collection, group, consumers, flush, cluster and tables are as they were said."""
    sql = printed(
        *("--table", "candles", "--database", "crypto", "--collection", "mine", "--group", "second"),
        *("--consumers", "4", "--flush-ms", "250", "--cluster", "three"),
    )
    for part in (
        "CREATE TABLE IF NOT EXISTS `crypto`.candles ON CLUSTER `three`",
        "ENGINE = ReplicatedReplacingMergeTree(version)",
        "CREATE TABLE IF NOT EXISTS `crypto_intake`.candles_topic ON CLUSTER `three`",
        "ENGINE = Kafka(`mine`)",
        "kafka_group_name = 'second-candles'",
        "kafka_num_consumers = 4",
        "kafka_flush_interval_ms = 250",
    ):
        assert part in sql
    assert "windows" not in sql


def test_unknown_table_is_told() -> None:
    """A table that isn't there is an error that names those that are."""
    with pytest.raises(ConfigError, match=r"expected windows, .* got window"):
        CliRunner().invoke(app, ["store", "clickhouse", "--table", "window"], catch_exceptions=False)


def test_all_that_is_made_can_be_dropped() -> None:
    """--drop names each table and view of each statement that makes one; of some tables only it leaves the databases."""
    made = {line.split()[5] if " VIEW " not in line else line.split(" EXISTS ")[1].split()[0] for line in creating(statements())}
    dropped = "\n".join(drops()).replace("`", "")
    assert made
    assert not [name for name in made if name.replace("`", "") not in dropped and not name.endswith("dead_lines")]
    assert "DROP DATABASE" in dropped
    assert "DROP DATABASE" not in "\n".join(drops([BY_NAME["candles"]]))


def creating(parts: object) -> list[str]:
    return [line for part in parts for line in part.splitlines() if line.startswith("CREATE") and " DATABASE " not in line]  # type: ignore[attr-defined]  # statements


def test_names_and_texts_are_quoted() -> None:
    """What was said can't become SQL of its own."""
    sql = script(statements([BY_NAME["gaps"]], Place("a`b"), Source(broker="it's:9092")))
    assert "`a``b`.gaps" in sql
    assert r"kafka_broker_list = 'it\'s:9092'" in sql


def test_ranks_that_no_version_expresses_are_refused() -> None:
    """A rank by a text that isn't last, by a number with a fraction or one that may be null is an error, not a wrong order."""
    signals = BY_NAME["signals"]
    for rank in (
        (("reason", Better.GREATER), ("revision", Better.GREATER)),
        (("reason", Better.LESS),),
        (("price", Better.GREATER),),
    ):
        with pytest.raises(ValueError, match="expected"):
            version_of(replace(signals, rank=rank))


def test_every_rank_is_expressed() -> None:
    """Each table's version and view name every column of its rank."""
    for table in TABLES:
        version = version_of(table)
        assert all(f"`{name}`" in version.expression or name == version.text for name, _ in table.rank)


@pytest.mark.parametrize("file", ["kafka.xml", "kafka-secured.xml"])
def test_server_takes_the_broker_from_our_own_variables(file: str) -> None:
    """The named collection is the one that the SQL names, and each of its values is a variable that our configuration knows."""
    collection = ElementTree.parse(DEPLOY / file).getroot().find(f"named_collections/{COLLECTION}")  # noqa: S314  # our own file
    assert collection is not None
    values = [value for value in collection.iter() if len(value) == 0 and value.tag != "session_timeout_ms"]
    assert values
    assert not [value.text for value in values if (value.text or "").strip()]
    prefix = "KLINESTREAM_KAFKA__"
    assert all(value.attrib["from_env"].startswith(prefix) for value in values)
    assert {value.attrib["from_env"].removeprefix(prefix).lower() for value in values} <= set(KafkaConfig.model_fields)


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("options", COMMANDS)
def test_commands_of_the_page_run(options: str) -> None:
    """Each command that docs/clickhouse.md shows prints SQL."""
    assert "klinestream" in printed(*shlex.split(options))


def test_tables_and_queries_are_documented() -> None:
    """docs/clickhouse.md has a line for each table as it is defined, and one for each query with its parameters."""
    page = DOCS.read_text()
    for table in TABLES:
        identity = ", ".join(table.identity)
        assert f"| `{table.name}` | `{table.topic.name}` | {identity} | {table.keep_days} days | {table.span} |" in page
    for file in Path(script_module.__file__).parent.glob("queries/*.sql"):
        parameters = ", ".join(dict.fromkeys(re.findall(r"{(\w+):", file.read_text())))
        line = next(line for line in page.splitlines() if line.startswith(f"| `{file.name}`"))
        assert set(line.rsplit("|", 2)[1].strip().split(", ")) == set(parameters.split(", ")), line
