"""Connections to the database: with bounds on every wait, and errors in our own words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from klinestream.market.errors import StoreError
from klinestream.runtime.config import Config

Database = psycopg.Connection[TupleRow]

_CONNECT_S = 5
# A database whose machine has gone says nothing: after this long without an answer on the network it counts as away.
_SILENT_MS = 30_000
_LOCK_S = 10
_STACK_HOST = "127.0.0.1"


def connect(config: Config) -> Database:
    """Connect, with the schema in the search path. Raises StoreError."""
    own = config.postgres
    settings: dict[str, object] = {
        "connect_timeout": _CONNECT_S,
        "tcp_user_timeout": _SILENT_MS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        "application_name": "klinestream",
    }
    if password := own.password.get_secret_value():
        settings["password"] = password
    elif _is_the_stack_s(config) and (passfile := stack_passfile(config)).exists():
        settings["passfile"] = str(passfile)
    with asking("connect"):
        connection = psycopg.connect(own.url, autocommit=True, **settings)  # type: ignore[arg-type]  # libpq takes text and numbers
        try:
            for name, value in {
                "search_path": own.namespace,
                "timezone": "UTC",
                "statement_timeout": f"{own.statement_s:g}s",
                "lock_timeout": f"{_LOCK_S}s",
                # Where this machine goes in the middle of a batch, the server must not hold its locks against the one that takes over.
                "idle_in_transaction_session_timeout": f"{own.statement_s:g}s",
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "4",
            }.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        except BaseException:
            connection.close()
            raise
    return connection


def stack_passfile(config: Config) -> Path:
    """Where `klinestream up --with postgres` keeps its database's password."""
    return config.stack.state_dir.absolute() / "postgres" / "pgpass"


def _is_the_stack_s(config: Config) -> bool:
    """Whether it is the database of `klinestream up --with postgres`; for another one libpq looks for the password where it always does."""
    address = conninfo_to_dict(config.postgres.url)
    return (address.get("host"), address.get("port")) == (_STACK_HOST, str(config.stack.postgres_port))


@contextmanager
def asking(what: str) -> Iterator[None]:
    """What the database refuses within is a StoreError that says what was asked of it."""
    try:
        yield
    except psycopg.Error as error:
        first = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"PostgreSQL gave no answer to be used ({what}): {first}") from error
