"""`klinestream store`: topics as tables of databases, a command a database."""

import typer

from klinestream.cli import store_clickhouse, store_postgres

app = typer.Typer(help="Topics as tables of databases that people already run.", no_args_is_help=True)
app.add_typer(store_postgres.app, name="postgres")
app.command()(store_clickhouse.clickhouse)
