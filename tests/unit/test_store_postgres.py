"""What the PostgreSQL sink is told, and how the local stack runs it; no database needed."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from klinestream.market.errors import ConfigError, SchemaError, StoreError
from klinestream.runtime.config import Config
from klinestream.stack import plans
from klinestream.stack.checks import ports
from klinestream.stack.jobs import Cluster
from klinestream.stack.layout import Layout
from klinestream.stores.postgres.connecting import connect, stack_passfile
from klinestream.stores.postgres.patience import Patience, again_and_again

Configured = Callable[..., Config]


@pytest.mark.parametrize("url", ["postgresql://me:hunter2@db/x", "postgresql://me@db/x?password=hunter2"])
def test_a_password_in_the_address_is_refused_and_not_shown(url: str, configured: Configured) -> None:
    """A secret in postgres.url raises ConfigError that names the variable for it, and doesn't repeat it."""
    with pytest.raises(ConfigError, match="KLINESTREAM_POSTGRES__PASSWORD") as raised:
        configured(postgres={"url": url})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"url": "mysql://db/x"}, "postgresql://user@host:5432/database"),
        ({"tables": ["candels"]}, "tables: expected names of windows"),
        ({"keep_days": {"candels": 3}}, "keep_days: expected names of windows"),
        ({"namespace": 'x"; DROP'}, "namespace"),
    ],
)
def test_what_can_t_be_meant_is_refused(table: dict[str, object], said: str, configured: Configured) -> None:
    """A database of another kind, an unknown table and a name that is no name raise ConfigError that says what was expected."""
    with pytest.raises(ConfigError, match=said):
        configured(postgres=table)


def test_days_come_from_the_configuration_else_from_the_definition(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    """keep_days overrides single tables, from the environment as JSON too."""
    monkeypatch.setenv("KLINESTREAM_POSTGRES__KEEP_DAYS", json.dumps({"windows": 30, "candles": 0}))
    own = configured(postgres={"tables": ["windows", "candles", "gaps"]}).postgres
    assert [own.kept_days(table) for table in own.chosen] == [30, 0, 400]


def test_the_stack_runs_a_server_unless_another_one_is_named(configured: Configured, tmp_path: Path) -> None:
    """`--with postgres` adds a server, its first preparation, and the sink that waits for it; with an own address, the sink alone."""

    def parts(config: Config) -> dict[str, plans.Plan]:
        made = plans.plans(config, Layout(tmp_path), Cluster("http://127.0.0.1:1"), True, ("postgres",))
        return {plan.name: plan for plan in made}

    ours, theirs = configured(), configured(postgres={"url": "postgresql://me@db.example/market"})
    assert parts(ours)["postgres"].needs == ("topics", "database")
    assert parts(ours)["database"].needs == ("database-format",)
    told = parts(ours)["postgres"].command().env["KLINESTREAM_POSTGRES__URL"]
    assert told == f"postgresql://klinestream@127.0.0.1:{ours.stack.postgres_port}/klinestream"
    assert not {"database", "database-format"} & parts(theirs).keys()
    assert parts(theirs)["postgres"].needs == ("topics",)
    assert "stack.postgres_port" in ports(ours, True, ("postgres",))
    assert "stack.postgres_port" not in ports(theirs, True, ("postgres",))


def test_the_stack_s_password_file_is_for_the_stack_s_database(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `up --with postgres` left in this folder doesn't take the place of PGPASSFILE for a database elsewhere."""
    given = list[object]()

    def refuse(_address: str, **settings: object) -> None:
        given.append(settings.get("passfile"))
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(psycopg, "connect", refuse)
    file = stack_passfile(configured(stack={"state_dir": tmp_path}))
    file.parent.mkdir()
    file.touch()
    for url in ("postgresql://klinestream@127.0.0.1:5433/klinestream", "postgresql://me@db.example/x", "postgresql://me@127.0.0.1/x"):
        with pytest.raises(StoreError, match="away"):
            connect(configured(stack={"state_dir": tmp_path}, postgres={"url": url}))
    assert given == [str(file), None, None]


def test_failures_are_tried_again_until_the_end_is_asked_for() -> None:
    """Each failure is told, with a wait that grows up to ten seconds; the end ends it without another try."""
    ending, waits = threading.Event(), list[float]()

    def fail() -> None:
        raise StoreError("away")

    def told(error: BaseException, wait_s: float) -> None:
        assert str(error) == "away"
        waits.append(wait_s)
        if len(waits) == 3:
            ending.set()

    again_and_again(fail, StoreError, Patience(), ending, told)
    assert len(waits) == 3
    patience = Patience()
    many = [patience(None) for _ in range(30)]  # type: ignore[arg-type]  # it only counts
    assert 0.125 <= many[0] <= 0.25
    assert all(5 <= wait_s <= 10 for wait_s in many[10:])
    patience.reset()
    assert patience(None) <= 0.25  # type: ignore[arg-type]


def test_a_schema_that_is_another_one_is_no_passing_trouble() -> None:
    """SchemaError ends it at once."""

    def fail() -> None:
        raise SchemaError("newer")

    with pytest.raises(SchemaError):
        again_and_again(fail, StoreError, Patience(), threading.Event(), lambda *_: None)
