"""Metrics and health over HTTP."""

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from klinestream.market.errors import ConfigError
from klinestream.runtime.metrics import MetricsServer
from tests.ports import free_ports

faults: list[str] = []


@pytest.fixture
def address() -> Iterator[str]:
    registry = CollectorRegistry()
    Counter("frames", "Frames", registry=registry).inc(3)
    (port,) = free_ports(1)
    server = MetricsServer("127.0.0.1", port, registry, lambda: faults)
    yield f"http://127.0.0.1:{port}"
    server.close()
    faults.clear()


def test_metrics_are_served(address: str) -> None:
    """/metrics has the registry as Prometheus reads it."""
    assert "frames_total 3.0" in httpx.get(f"{address}/metrics").text


def test_health_tells_what_is_wrong(address: str) -> None:
    """/healthz is 200 while nothing is wrong, and else 503 with what is."""
    assert (httpx.get(f"{address}/healthz").status_code, httpx.get(f"{address}/healthz").text) == (200, "ok\n")
    faults.append("connection 2.0: newest kline is 12.3 s old")
    found = httpx.get(f"{address}/healthz")
    assert (found.status_code, found.text) == (503, "connection 2.0: newest kline is 12.3 s old\n")


def test_other_paths_are_not_found(address: str) -> None:
    """Any other path is a 404 that says which there are."""
    assert httpx.get(f"{address}/").status_code == 404


def test_taken_port_is_told(address: str) -> None:
    """A port that is taken is a ConfigError that names it and says what to do."""
    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*metrics_port"):
        MetricsServer("127.0.0.1", port, CollectorRegistry(), lambda: [])
