"""A real Prometheus: its own check of configuration and alerts, and every panel's expression over what the parts tell."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest
import yaml

from klinestream.runtime.config import Config
from klinestream.stack.commands import configuration, script_of
from tests import chart, grafana
from tests.eventually import eventually
from tests.grafana import Look
from tests.klines import kline
from tests.ports import free_ports
from tests.prometheus import ALERTS, CONFIG, FLINK, PANELS, RATES_S, Prometheus, program, scraped_parts
from tests.stack import TestBroker, TestFlink, running
from tests.topics import kafka, publish, record_of

LOOK = Look(0, 3_600_000, "1s")
pytestmark = pytest.mark.skipif(
    program("promtool") is None or program("prometheus") is None, reason="no prometheus here: scripts/prometheus.sh fetches it"
)


def promtool(*arguments: str) -> None:
    found = subprocess.run([str(program("promtool")), *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr


def test_promtool_takes_the_configuration_and_the_alerts() -> None:
    """Both are valid, by Prometheus' own checks; what they only advise counts as a fault."""
    promtool("check", "config", str(CONFIG))
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    """promtool runs alerts_test.yml: faults of each kind, and three hours without any."""
    promtool("test", "rules", str(ALERTS.with_name("alerts_test.yml")))


def test_of_two_venues_the_dead_one_is_told(tmp_path: Path) -> None:
    """The chart's alerts are valid, and another release's fresh klines and server don't hide that this one has none."""
    [rules] = [each["spec"] for each in chart.rendered(chart.CHOSEN["large"]) if each["kind"] == "PrometheusRule"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(tmp_path / "rules.yml"))
    (tmp_path / "venues.yml").write_text(f"""
rule_files: [rules.yml]
tests:
  - interval: 1m
    input_series:
      - {{series: 'klinestream_producer_data_age_seconds{{namespace="other", instance="a"}}', values: 1x10}}
      - {{series: 'klinestream_producer_data_age_seconds{{namespace="{chart.NAMESPACE}", instance="b"}}', values: 99x10}}
      - {{series: 'up{{namespace="other", job="server", instance="a"}}', values: 1x10}}
    alert_rule_test:
      - eval_time: 5m
        alertname: KlinesStale
        exp_alerts:
          - exp_labels: {{severity: page, namespace: {chart.NAMESPACE}}}
            exp_annotations: {{summary: The newest klines are 1m 39s old., runbook: docs/dashboards.md#klinesstale}}
      - eval_time: 5m
        alertname: NoServer
        exp_alerts:
          - exp_labels: {{severity: page, namespace: {chart.NAMESPACE}, job: server}}
            exp_annotations: {{summary: There is no server., runbook: docs/dashboards.md#partaway}}
""")
    promtool("test", "rules", str(tmp_path / "venues.yml"))


def test_a_sink_that_has_stored_nothing_yet_has_no_age(tmp_path: Path) -> None:
    """Until the first batch nothing is drawn, not the seconds since 1970; then how long ago that was."""
    stored, expression = "klinestream_postgres_last_stored_seconds", PANELS["health: Age of what is not stored B"]
    test = {
        "interval": "1m",
        "input_series": [{"series": stored, "values": "0 0 60"}],
        "promql_expr_test": [
            {"expr": expression, "eval_time": "1m", "exp_samples": []},
            {"expr": expression, "eval_time": "3m", "exp_samples": [{"labels": "{}", "value": 120}]},
        ],
    }
    (tmp_path / "stored.yml").write_text(yaml.safe_dump({"tests": [test]}))
    promtool("test", "rules", str(tmp_path / "stored.yml"))


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Over servers of metrics as all parts run them."""
    with scraped_parts() as targets:
        started = Prometheus(tmp_path_factory.mktemp("prometheus"), targets)
        try:
            started.wait_until_scraped()
            yield started
        finally:
            started.close()


@pytest.mark.parametrize("where", PANELS)
def test_every_panel_finds_series(where: str, prometheus: Prometheus) -> None:
    """Scraped, relabelled, and asked as Grafana asks: each expression gives something."""
    expression = grafana.promql(PANELS[where], LOOK, RATES_S)
    eventually(lambda: prometheus.query(expression), 60, f"series of {expression}")


def test_alerts_are_evaluated(prometheus: Prometheus) -> None:
    """Every rule can be computed over what was scraped."""

    def computed() -> bool:
        rules = [rule for group in prometheus.rules() for rule in group["rules"]]
        assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] == "err"] == []
        return len(rules) > 20 and all(rule["health"] == "ok" for rule in rules)

    eventually(computed, 60, "every rule is computed")


@pytest.mark.soak
def test_flink_tells_what_its_recorded_text_says(job_broker: TestBroker, configured: Callable[..., Config], tmp_path: Path) -> None:
    """A cluster with its reporter and both jobs: every name in the recorded text is told, with the labels that are asked for."""
    [first] = free_ports(1)
    cluster = TestFlink(tmp_path)
    with (cluster.layout.flink_conf / "config.yaml").open("a") as settings:
        factory = "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
        settings.write(f"metrics.reporter.prom.factory.class: {factory}\nmetrics.reporter.prom.port: {first}-{first + 20}\n")
    config = configured(kafka=kafka(job_broker.bootstrap_servers).model_dump(exclude={"sasl_password"}))
    seconds = count(int(time.time()) - 60)
    wanted = {line.split("{")[0] for line in FLINK.read_text().splitlines() if not line.startswith("#")}

    def told() -> bool:
        # A source tells its lag once it has read some records, one after the other.
        now_ms = next(seconds) * 1000
        publish(job_broker.bootstrap_servers, [record_of(kline(open_time_ms=now_ms, close_time_ms=now_ms + 999))])
        text = "".join(filter(None, map(_metrics_at, range(first, first + 20))))
        missing = [name for name in wanted if not re.search(rf'^{name}{{.*job_name="klinestream_(windows|candles)"', text, re.MULTILINE)]
        assert missing == []
        return True

    with running(cluster):
        for job in ("windows", "candles"):
            cluster.submit(script_of(job), env=configuration(config))
        eventually(told, 60, "Flink tells every metric")


def _metrics_at(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    except httpx.TransportError:
        return ""
