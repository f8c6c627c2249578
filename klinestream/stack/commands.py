"""The command of every part, in one place: what `klinestream up` runs, and what docker-compose.yml is checked against.

Our own parts take their whole configuration from the environment, so that a part started here and one started by hand differ in
nothing else.
"""

import importlib.util
import json
from pathlib import Path

from pydantic import SecretStr

from klinestream.market.errors import StackError
from klinestream.runtime.config import PREFIX, Config
from klinestream.stack import flink, jars, jobs
from klinestream.stack.java import scripts
from klinestream.stack.layout import Layout
from klinestream.stack.process import Command

TOPICS = ("klinestream", "topics", "create")
STANDIN = ("klinestream", "standin")
PRODUCER = ("klinestream", "producer")
SERVER = ("klinestream", "server")
REPAIR = ("klinestream", "repair", "--follow")
ALERTS = ("klinestream", "alerts")
ARCHIVE = ("klinestream", "archive")
INGEST = ("klinestream", "ingest")
PROOF = ("klinestream", "verify", "replay", "--follow")
TRADES = ("klinestream", "feed", "trades")
BOOKS = ("klinestream", "feed", "books")
FINNHUB = ("klinestream", "feed", "finnhub")
STORE_POSTGRES = ("klinestream", "store", "postgres")
WORKFLOW = ("klinestream", "workflow", "serve")
# A job's client takes seconds until it looks for the topics, which are made meanwhile.
_TOPICS_S = "20"


def configuration(config: Config) -> dict[str, str]:
    """The whole configuration as environment variables, secrets included, defaults too: a file that lies about changes nothing."""
    return {f"{PREFIX}{section}__{key}".upper(): _as_text(value) for section, table in config for key, value in table}


def own(name: str, argv: tuple[str, ...], config: Config) -> Command:
    """A part of ours: a `klinestream` command with this configuration."""
    program = scripts() / argv[0]
    return Command(name, (str(program), *argv[1:]), configuration(config) | {"PYTHONUNBUFFERED": "1"})


def script_of(job: str) -> Path:
    """The file of a job: `windows` → jobs/windows.py. Raises StackError."""
    found = importlib.util.find_spec(f"jobs.{job}")
    if found is None or found.origin is None:
        raise StackError(f"expected a job jobs/{job}.py, found none: install klinestream again")
    return Path(found.origin)


def submit(job: str, config: Config, layout: Layout, restore_from: str = "") -> Command:
    """`flink run` of a job on the local cluster."""
    return jobs.submit_command(
        script_of(job),
        ("--wait-for-topics", _TOPICS_S),
        rest_url=flink.rest_url(flink.Ports(config.stack.flink_port, config.stack.flink_rpc_port)),
        connector=jars.connector(layout.jars),
        environment=flink.environment(layout) | configuration(config),
        restore_from=restore_from,
        checkpoints=flink.address(layout.checkpoints / jobs.folder_of(job, config.kafka.topic_prefix)),
    )


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value)
