"""`klinestream store clickhouse`: the SQL by which a ClickHouse server reads the topics into tables."""

from typing import Annotated

import typer

from klinestream.market.errors import ConfigError
from klinestream.market.tables import BY_NAME, TABLES, Table
from klinestream.runtime.config import Config
from klinestream.stores.clickhouse.schema import Place
from klinestream.stores.clickhouse.script import drops, script, statements
from klinestream.stores.clickhouse.source import COLLECTION, Source


def clickhouse(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    table: Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be given again.")] = None,
    database: Annotated[str, typer.Option(help="Database of the tables; `…_intake` beside it reads the topics.")] = "klinestream",
    broker: Annotated[str, typer.Option(help="Broker as the server reaches it, written into the SQL in place of the collection.")] = "",
    collection: Annotated[str, typer.Option(help="Named collection of the server, with broker and login.")] = COLLECTION,
    group: Annotated[str, typer.Option(help="Consumer group, before the table's name; another one reads from the beginning.")] = (
        "klinestream-clickhouse"
    ),
    consumers: Annotated[int, typer.Option(min=1, help="Consumers a topic; up to its partitions and the server's cores.")] = 1,
    flush_ms: Annotated[int, typer.Option(min=100, help="How long rows are gathered before they are written.")] = 1000,
    cluster: Annotated[str, typer.Option(help="Make all on each server of this cluster, rows replicated among them.")] = "",
    drop: Annotated[bool, typer.Option("--drop", help="The SQL that removes the tables and all their rows instead.")] = False,
) -> None:
    """Print the SQL that makes the tables and fills them from the topics; pipe it into clickhouse-client.

    It makes only what is missing, so it may be run again. Secrets are never in it: see docs/clickhouse.md.
    """
    config: Config = ctx.obj
    tables = _tables(table)
    place = Place(database, cluster)
    if drop:
        typer.echo(script(drops(tables, place)), nl=False)
        return
    source = Source(broker, collection, group, config.kafka.topic_prefix, consumers, flush_ms)
    typer.echo(script(statements(tables, place, source)), nl=False)


def _tables(names: list[str] | None) -> tuple[Table, ...]:
    unknown = [name for name in names or () if name not in BY_NAME]
    if unknown:
        raise ConfigError(f"--table: expected {', '.join(BY_NAME)}, got {unknown[0]}")
    return tuple(table for table in TABLES if not names or table.name in names)
