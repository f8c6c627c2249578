"""A real Prometheus: its own check of configuration and alerts, and every panel's expression over what the parts tell."""

import subprocess
from collections.abc import Iterator

import pytest

from tests import grafana
from tests.grafana import Look
from tests.prometheus import ALERTS, CONFIG, SCRAPE_S, Prometheus, program, scraped_parts
from tests.unit.test_dashboards import promql

PANELS = {where: expression for where, expression in promql().items() if not where.startswith("alert ")}
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
    expression = grafana.promql(PANELS[where], LOOK, SCRAPE_S)
    assert prometheus.query(expression), expression


def test_alerts_are_evaluated(prometheus: Prometheus) -> None:
    """Every rule can be computed over what was scraped."""
    groups = prometheus.rules()
    assert sum(len(group["rules"]) for group in groups) > 20
    assert [rule for group in groups for rule in group["rules"] if rule["health"] == "err"] == []
