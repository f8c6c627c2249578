"""Logs: one line an event on stderr, a short lower-case phrase with key=value, for a person or as JSON.

`setup` is called once a process; then each module has `log = structlog.get_logger()`. What libraries log through the
standard library takes the same form and the same way.
"""

import logging
import sys
import time
from typing import Any

import orjson
import structlog

from klinestream.runtime.sections import LogConfig

# These tell each request and each connection.
_TALKATIVE = {"kafka": logging.WARNING, "httpx": logging.WARNING, "httpcore": logging.WARNING, "asyncio": logging.WARNING}
_KAFKA_REPEATS_S = 10.0


def setup(config: LogConfig) -> None:
    """Send this process's logs to stderr in the configured form, from the configured level on."""
    level = logging.getLevelNamesMapping()[config.level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_KafkaSparsely())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(config)]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _TALKATIVE.items():
        logging.getLogger(name).setLevel(level if config.level == "debug" else max(level, least))


class _KafkaSparsely(logging.Filter):
    """While a broker is away, its client writes the same lines many times a second: one of each in a while is enough."""

    def __init__(self) -> None:
        super().__init__()
        self._last_s: dict[tuple[str, int], float] = {}  # as many entries as the library has lines that log

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it."""
        if not record.name.startswith("kafka.") or record.levelno <= logging.DEBUG:
            return True
        line = (record.pathname, record.lineno)
        now_s = time.monotonic()  # not the record's own time: a clock that is set back would silence the line for as long
        if line in self._last_s and now_s - self._last_s[line] < _KAFKA_REPEATS_S:
            return False
        self._last_s[line] = now_s
        return True


def _rendering(config: LogConfig) -> list[structlog.typing.Processor]:
    if config.format == "console":
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(serializer=_json)]


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()
