"""Whatever /api/openapi.json allows or forbids, a server with a market answers as the document says."""

from collections.abc import Iterator

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from klinestream.market.errors import BrokerError
from klinestream.runtime import config as configuration
from klinestream.runtime.kafka import Reader
from klinestream.runtime.server_sections import ServerConfig
from server.app import create_app
from tests.eventually import eventually
from tests.integration.rest_server import SYMBOLS, published
from tests.serving import ServerProcess, Windows, ends_between, now_ms, window_at
from tests.stack import TestBroker

WAIT_S = 60.0
EXAMPLES = 8
TWINS = ["/api/v1/indicators", "/api/v3/uiKlines"]
"""What differs from another route in nothing that could be seen here."""


@pytest.fixture(scope="module")
def server(module_broker: TestBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One with windows, candles, indicators, signals and a gap."""
    published(module_broker.bootstrap_servers, configuration.Config())
    windows = Windows(module_broker.bootstrap_servers)
    windows.publish([window_at(symbol, end, now_ms() - 60_000) for end in ends_between(now_ms() - 5000, now_ms()) for symbol in SYMBOLS])
    windows.close()
    log = tmp_path_factory.mktemp("openapi") / "server.log"
    started = ServerProcess(module_broker.bootstrap_servers, log, requests_per_s=100_000, history_s=600)
    try:
        started.start()
        eventually(lambda: started.http.get("/api/v1/status").json()["candles"]["complete"], WAIT_S, "the candles are read")
        eventually(lambda: started.http.get("/api/v1/books/BTCUSDT").status_code != 503, WAIT_S, "the books are read")
        yield started
    finally:
        started.close()


def no_reader() -> Reader:
    raise BrokerError("expected no reading in this test")


api = schemathesis.openapi.from_dict(create_app(ServerConfig(), no_reader).openapi()).exclude(path=TWINS)


@api.parametrize()
@hypothesis.settings(max_examples=EXAMPLES)
def test_every_answer_is_one_that_is_documented(case: schemathesis.Case, server: ServerProcess) -> None:
    """Status, media type, headers and body are those of the document, and none is a fault of the program.

    Only that all that is allowed be answered is not asked for: what a schema can't say is refused too, such as an unknown symbol, or a
    span that ends before it begins.
    """
    case.call_and_validate(base_url=server.url, excluded_checks=[positive_data_acceptance])
