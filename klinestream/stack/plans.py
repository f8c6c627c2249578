"""The parts of the local stack: how each is started, what it needs first, and when it is up."""

import socket
from collections.abc import Callable
from functools import cache, partial

import httpx

from klinestream.market.errors import StackError
from klinestream.runtime.config import Config
from klinestream.runtime.postgres_section import PostgresConfig
from klinestream.runtime.sections import ArchiveConfig
from klinestream.runtime.server_sections import ServerConfig
from klinestream.stack import broker, commands, database, extras, flink, jobs
from klinestream.stack.layout import Layout
from klinestream.stack.part import Plan

# On this machine an answer takes milliseconds; a longer wait would hold up the other parts' supervision.
_ANSWER_S = 0.5
BROKER = "broker"
JOB_MANAGER = "job-manager"
TOPICS = "topics"
_FORMAT = f"{extras.DATABASE}-format"


def plans(config: Config, layout: Layout, cluster: jobs.Cluster, with_standin: bool, also: tuple[str, ...] = ()) -> list[Plan]:
    """All parts in the order in which they are shown, `also` those of `extras`; a job itself is looked after by a JobKeeper."""
    found = [
        _broker(config, layout),
        Plan(TOPICS, lambda: commands.own(TOPICS, commands.TOPICS, config), bool, needs=(BROKER,), once=True),
        _job_manager(config, layout),
        *(_task_manager(number, config, layout, cluster) for number in range(1, config.stack.task_managers + 1)),
        *([_standin(config)] if with_standin else []),
        _producer(config, with_standin),
        *(_database(config, layout) if runs_database(config, also) else []),
        *(_extra(name, with_archive(with_database(config, also), layout), with_standin, runs_database(config, also)) for name in also),
        _server(config, also),
        _repair(config),
        *([_alerts(config)] if config.signals.webhook_url else []),
        _archive(config, layout),
        _proof(config, layout),
    ]
    if not broker.is_formatted(layout):
        found.insert(0, Plan("format", lambda: broker.format_command(layout), bool, once=True))
    return found


def _broker(config: Config, layout: Layout) -> Plan:
    port = config.stack.broker_port
    needs = () if broker.is_formatted(layout) else ("format",)
    return Plan(BROKER, lambda: broker.command(layout), lambda: _listens(port), needs, port)


def _job_manager(config: Config, layout: Layout) -> Plan:
    port = config.stack.flink_port
    return Plan(
        JOB_MANAGER,
        lambda: flink.job_manager(layout),
        _answers(f"http://{flink.HOST}:{port}/overview"),
        port=port,
        before_start=partial(flink.empty_scratch, layout, JOB_MANAGER),
    )


def _task_manager(number: int, config: Config, layout: Layout, cluster: jobs.Cluster) -> Plan:
    name = f"task-manager-{number}"

    def registered() -> bool:
        try:
            return cluster.task_managers() >= config.stack.task_managers
        except StackError:
            return False

    return Plan(name, lambda: flink.task_manager(layout, number), registered, before_start=partial(flink.empty_scratch, layout, name))


def _standin(config: Config) -> Plan:
    port = config.stack.standin_port
    ping = f"http://{_reached(config.standin.host)}:{port}/api/v3/ping"
    return Plan("standin", lambda: commands.own("standin", commands.STANDIN, config), _answers(ping), port=port)


def _producer(config: Config, with_standin: bool) -> Plan:
    port = config.producer.metrics_port
    is_up = _answers(f"http://{_reached(config.producer.metrics_host)}:{port}/metrics") if port else lambda: True
    needs = (TOPICS, "standin") if with_standin else (TOPICS,)
    return Plan("producer", lambda: commands.own("producer", commands.PRODUCER, config), is_up, needs, port or None)


def _extra(name: str, config: Config, with_standin: bool, with_database: bool) -> Plan:
    host, port = extras.metrics(config, name)
    is_up = _answers(f"http://{_reached(host)}:{port}/metrics") if port else lambda: True
    needs = (TOPICS, "standin") if with_standin and extras.EXTRAS[name].asks_exchange else (TOPICS,)
    further = extras.EXTRAS[name].needs if with_database else ()
    return Plan(name, extras.command(config, name), is_up, (*needs, *further), port or None)


def _database(config: Config, layout: Layout) -> list[Plan]:
    """The server, and before its first start its data folder."""
    port = config.stack.postgres_port
    server = partial(Plan, extras.DATABASE, lambda: database.command(layout), lambda: _listens(port), port=port)
    if database.is_formatted(layout):
        return [server()]
    make = Plan(_FORMAT, lambda: database.format_command(layout), bool, once=True, before_start=lambda: database.make_room(layout))
    return [make, server(needs=(_FORMAT,), before_start=lambda: database.take_name(layout))]


def runs_database(config: Config, also: tuple[str, ...]) -> bool:
    """Whether the stack runs a PostgreSQL server: where it is asked for, and no other one is named."""
    return extras.POSTGRES in also and config.postgres.url == PostgresConfig().url


def with_database(config: Config, also: tuple[str, ...]) -> Config:
    """The configuration with the database's place: where nothing else is set, the one that runs here."""
    if not runs_database(config, also):
        return config
    return config.model_copy(update={"postgres": config.postgres.model_copy(update={"url": database.url(config.stack.postgres_port)})})


def _server(config: Config, also: tuple[str, ...]) -> Plan:
    port, told = config.server.port, with_addresses(config, also)
    return Plan("server", lambda: commands.own("server", commands.SERVER, told), _answers(f"{server_url(config)}/healthz"), (TOPICS,), port)


def with_addresses(config: Config, also: tuple[str, ...] = ()) -> Config:
    """The configuration with what the server asks for /status: where nothing else is set, the parts that run here."""
    ports = {
        "producer": (config.producer.metrics_host, config.producer.metrics_port),
        "repair": (config.repair.metrics_host, config.repair.metrics_port),
        "archive": (config.archive.metrics_host, config.archive.metrics_port),
        "proof": (config.proof.metrics_host, config.proof.metrics_port),
        "alerts": (config.signals.metrics_host, config.signals.metrics_port if config.signals.webhook_url else 0),
    }
    ports |= {extras.observed(name): extras.metrics(config, name) for name in also}
    found: dict[str, object] = {
        "observe": tuple(f"{name}=http://{_reached(host)}:{port}" for name, (host, port) in ports.items() if port),
        "flink_url": f"http://{flink.HOST}:{config.stack.flink_port}",
    }
    unset = {key: value for key, value in found.items() if getattr(config.server, key) == getattr(ServerConfig(), key)}
    return config.model_copy(update={"server": config.server.model_copy(update=unset)})


def _reached(host: str) -> str:
    """What stands for a host to listen on in an address that this machine asks."""
    return flink.HOST if host in {"0.0.0.0", "::"} else _in_address(host)  # noqa: S104  # compared, not bound


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _repair(config: Config) -> Plan:
    port = config.repair.metrics_port
    is_up = _answers(f"http://{_reached(config.repair.metrics_host)}:{port}/metrics") if port else lambda: True
    return Plan("repair", lambda: commands.own("repair", commands.REPAIR, config), is_up, (TOPICS, "windows"), port or None)


def _alerts(config: Config) -> Plan:
    port = config.signals.metrics_port
    is_up = _answers(f"http://{_reached(config.signals.metrics_host)}:{port}/metrics") if port else lambda: True
    return Plan("alerts", lambda: commands.own("alerts", commands.ALERTS, config), is_up, (TOPICS,), port or None)


def _archive(config: Config, layout: Layout) -> Plan:
    port, told = config.archive.metrics_port, with_archive(config, layout)
    is_up = _answers(f"http://{_reached(config.archive.metrics_host)}:{port}/metrics") if port else lambda: True
    # It has a day to catch up: the chart comes first.
    return Plan("archive", lambda: commands.own("archive", commands.ARCHIVE, told), is_up, (TOPICS, "windows", "server"), port or None)


def _proof(config: Config, layout: Layout) -> Plan:
    port, told = config.proof.metrics_port, with_archive(config, layout)
    is_up = _answers(f"http://{_reached(config.proof.metrics_host)}:{port}/metrics") if port else lambda: True
    # Nothing waits for it: it comes last.
    return Plan("proof", lambda: commands.own("proof", commands.PROOF, told), is_up, ("archive", "candles"), port or None)


def with_archive(config: Config, layout: Layout) -> Config:
    """The configuration with the archive's place: where nothing else is set, beside what else the stack keeps."""
    if config.archive.url != ArchiveConfig().url:
        return config
    return config.model_copy(update={"archive": config.archive.model_copy(update={"url": str(layout.archive)})})


def server_url(config: Config) -> str:
    """Base address of the chart's server, as this machine reaches it."""
    host = "localhost" if config.server.host in {"127.0.0.1", "0.0.0.0", "::"} else _in_address(config.server.host)  # noqa: S104  # compared, not bound
    return f"http://{host}:{config.server.port}"


def has_data(config: Config) -> bool:
    """The chart has fresh data."""
    return _answers(f"{server_url(config)}/readyz")()


@cache
def _client() -> httpx.Client:
    # No proxy stands between a machine and itself; a connection kept open would only outlive the part it was to.
    return httpx.Client(timeout=_ANSWER_S, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def _answers(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            return _client().get(url).is_success
        except (httpx.HTTPError, httpx.InvalidURL):  # a host that is none is the part's own to complain of
            return False

    return ask


def _listens(port: int) -> bool:
    try:
        socket.create_connection((flink.HOST, port), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True
