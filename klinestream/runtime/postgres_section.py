"""The table of the PostgreSQL sink. A key's docstring is what docs/operations.md says of it."""

from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr, model_validator

from klinestream.market.tables import BY_NAME, TABLES, Table
from klinestream.runtime.sections import Seconds, Section


class PostgresConfig(Section):
    """Topics as tables of PostgreSQL: `klinestream store postgres`."""

    url: str = "postgresql://klinestream@127.0.0.1:5433/klinestream"
    """Where the database is, without a password; by default the one of `klinestream up --with postgres`."""
    password: SecretStr = SecretStr("")
    """The user's password, empty for what libpq finds (PGPASSFILE); only from KLINESTREAM_POSTGRES__PASSWORD."""
    namespace: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = "klinestream"
    """The schema that all tables stand in; made if the user may and it isn't there."""
    migrate: bool = True
    """Bring the schema up to date at the start; false where another user does it with `klinestream store postgres migrate`."""
    tables: tuple[str, ...] = ()
    """Tables to write; none means all."""
    keep_days: dict[str, Annotated[int, Field(ge=0, le=36_500)]] = {}  # noqa: RUF012  # a model copies it
    """Days that a table keeps, by its name, as in `{windows = 30}`; 0 for ever; of others what docs/postgres.md says."""
    batch_rows: Annotated[int, Field(ge=100, le=1_000_000)] = 20_000
    """Records in one transaction at most; twice as many are in memory at most, and read again after a trouble."""
    batch_s: Seconds = 0.5
    """How long records are gathered before they are written."""
    statement_s: Seconds = 120.0
    """A statement that takes longer is given up, and its batch tried again."""
    metrics_host: str = "127.0.0.1"
    """Address of the metrics."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9117
    """Prometheus metrics on this port of `metrics_host`; 0 for none."""

    @property
    def chosen(self) -> tuple[Table, ...]:
        """The tables to write."""
        return tuple(table for table in TABLES if not self.tables or table.name in self.tables)

    def kept_days(self, table: Table) -> int:
        """How many days a table keeps; 0 for ever."""
        return self.keep_days.get(table.name, table.keep_days)

    @model_validator(mode="after")
    def _known(self) -> "PostgresConfig":
        for key, names in (("tables", self.tables), ("keep_days", self.keep_days)):
            unknown = sorted(set(names) - set(BY_NAME))
            if unknown:
                raise ValueError(f"{key}: expected names of {', '.join(BY_NAME)}, got {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _address(self) -> "PostgresConfig":
        # Not a check of the field: its error would show the address, which may hold a password.
        try:
            parts = urlsplit(self.url)
            secret = parts.password is not None or "password" in parse_qs(parts.query)
        except ValueError:
            raise ValueError("url must be an address such as postgresql://user@host:5432/database") from None
        if secret:
            raise ValueError("url must not hold a password: set KLINESTREAM_POSTGRES__PASSWORD")
        if parts.scheme not in {"postgresql", "postgres"}:
            raise ValueError("url must be an address such as postgresql://user@host:5432/database")
        return self
