"""`klinestream topics`: list, create and check the topics of `market/topics.py` on any Kafka."""

import typer

from klinestream.runtime.config import Config

app = typer.Typer(help="The topics: list, create, check.", no_args_is_help=True)


@app.command("list")
def list_topics() -> None:
    """Show every topic as it is defined; asks no broker."""
    from rich.console import Console
    from rich.table import Table

    from klinestream.market.intervals import HOUR_MS
    from klinestream.market.topics import MIB, TOPICS

    table = Table("topic", "key", "partitions", "kept", "at most a partition", "a record is")
    for topic in TOPICS:
        kept = "newest of a key" if topic.cleanup.startswith("compact") else f"{topic.retention_ms // HOUR_MS} h"
        table.add_row(topic.name, topic.key, str(topic.partitions), kept, f"{topic.retention_bytes // MIB} MiB", topic.meaning)
    Console().print(table)


@app.command()
def create(ctx: typer.Context) -> None:
    """Create the topics that are missing; those that exist are left as they are, and compared."""
    from klinestream.market.topics import TOPICS
    from klinestream.runtime.topic_admin import TopicAdmin, differences

    config: Config = ctx.obj
    with TopicAdmin(config.kafka) as admin:
        made = admin.create(TOPICS)
        found = differences(TOPICS, admin.existing(TOPICS))
    typer.echo(f"created {', '.join(made)}" if made else "all topics exist")
    _tell(found)


@app.command()
def check(ctx: typer.Context) -> None:
    """Compare the topics with their definition; exit code 1 if anything differs."""
    from klinestream.market.topics import TOPICS
    from klinestream.runtime.topic_admin import TopicAdmin, differences

    config: Config = ctx.obj
    with TopicAdmin(config.kafka) as admin:
        found = differences(TOPICS, admin.existing(TOPICS))
    _tell(found)
    if found:
        raise typer.Exit(1)
    typer.echo("all topics are as defined")


def _tell(found: list[str]) -> None:
    for line in found:
        typer.echo(line, err=True)
