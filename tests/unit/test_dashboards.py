"""The dashboards' files, what provisions them, and the names of metrics in them and in the alerts."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import AnnotationTarget, Dashboard

from deploy.dashboards.__main__ import FOLDER, files
from tests import grafana
from tests.grafana import ALL, Look
from tests.prometheus import ALERTS, CONFIG, PANELS, RULES, named, told

ROOT = Path(__file__).parents[2]
FILES = files()
SOURCES = yaml.safe_load((FOLDER.parent / "datasources" / "klinestream.yml").read_text())["datasources"]
LOOK = Look(1_700_000_000_000, 1_700_003_600_000, "30s", {"symbol": "BTCUSDT", "several": ["BTCUSDT", "O'NE"], "all": ALL})
VARIABLES = [{"name": "symbol"}, {"name": "several", "multi": True}, {"name": "all", "includeAll": True, "allValue": "symbol"}]


def boards() -> dict[str, dict[str, Any]]:
    return {name: json.loads(text) for name, text in FILES.items()}


def test_files_are_those_that_the_code_makes() -> None:
    """`make dashboards` was run after the last change, and nothing else stands in the folder."""
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_nothing_that_grafanas_own_types_do_not_know(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the classes made from Grafana's schema and written again, it is the same: no field is unknown or lost."""
    # Those classes know only what marks from Grafana's own store ask for; ours ask PostgreSQL.
    monkeypatch.setattr(AnnotationTarget, "from_json", classmethod(lambda _cls, data: data))
    plugins.register_default_plugins()  # options of each kind of panel are read by its own class
    found = json.loads(FILES[name])
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(found))) == found


@pytest.mark.parametrize("name", FILES)
def test_panels_have_numbers_titles_places_and_queries_of_their_own(name: str) -> None:
    """No id twice, no panel over another or past the edge, each with a title, a description and sources that are provisioned."""
    panels = boards()[name]["panels"]
    assert max(Counter(panel["id"] for panel in panels).values()) == 1
    taken = Counter(
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place.get("x", 0), place.get("x", 0) + place["w"])
        for y in range(place.get("y", 0), place.get("y", 0) + place["h"])
    )
    assert max(taken.values()) == 1
    assert max(x for x, _ in taken) < 24
    for panel in grafana.panels(boards()[name]):
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        # All queries of a panel go where the panel says.
        assert [target["datasource"] for target in panel["targets"]] == [panel["datasource"]] * len(refs)


@pytest.mark.parametrize("name", FILES)
def test_sources_are_provisioned(name: str) -> None:
    """Whatever a dashboard asks is one of the two sources, by type and uid."""
    known = {(source["uid"], source["type"]) for source in SOURCES}
    asked = {(ref["uid"], ref["type"]) for ref in _sources(boards()[name])}
    assert asked
    assert asked <= known


def _sources(node: Any) -> list[dict[str, str]]:
    if isinstance(node, list):
        return [found for each in node for found in _sources(each)]
    if not isinstance(node, dict):
        return []
    own = [node["datasource"]] if isinstance(node.get("datasource"), dict) else []
    return own + [found for each in node.values() for found in _sources(each)]


def test_the_market_is_read_anew_every_five_seconds() -> None:
    """The market's dashboard refreshes by itself, and so does the pipeline's health."""
    found = boards()
    assert found["klinestream-market.json"]["refresh"] == "5s"
    assert found["klinestream-health.json"]["refresh"] == "5s"


def test_no_secret_stands_in_what_is_provisioned() -> None:
    """The password comes from the environment; the user is the one that can only read."""
    [database] = [source for source in SOURCES if source["uid"] == "klinestream-postgres"]
    assert database["secureJsonData"] == {"password": "$KLINESTREAM_READER_PASSWORD"}
    assert database["user"] == "klinestream_reader"
    assert "klinestream_reader" in (FOLDER.parents[1] / "reader.sql").read_text()


EXPRESSIONS = PANELS | RULES


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_is_one_that_a_part_tells(where: str) -> None:
    """Each name stands in the registry of a part of ours, or in what Flink's reporter told."""
    expression = EXPRESSIONS[where]
    names = named(expression)
    assert names or "up{" in expression
    assert names <= told()


@pytest.mark.parametrize("asking", [PANELS, RULES], ids=["panels", "alerts"])
def test_feeds_are_watched_as_the_producer_is(asking: dict[str, str]) -> None:
    """Their age, their gaps, their comparisons, the exchange's refusals and their dead letters are drawn, and told."""
    wanted = ("data_age_seconds", "backlog_spans", "check_mismatches_total", "rest_closed_seconds", "dead_letters_total")
    asked = {name for expression in asking.values() for name in named(expression)}
    assert {f"klinestream_feed_{name}" for name in wanted} <= asked


def test_every_part_with_metrics_is_scraped() -> None:
    """Each port that docs/operations.md gives for metrics, and the server's, is scraped; ingestion's own isn't: it asks for a token."""
    ports = set(re.findall(r"^\| `metrics_port` \| `(\d+)` ", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)) | {"8084"}
    scraped = set(re.findall(r"port: (\d+)", CONFIG.read_text()))
    assert ports <= scraped
    assert "9119" in ports
    assert "8085" not in scraped


def test_kept_metrics_of_flink_are_those_that_are_asked_for() -> None:
    """What prometheus.yml keeps of Flink's many metrics includes each that a dashboard or an alert names."""
    [flink] = [job for job in yaml.safe_load(CONFIG.read_text())["scrape_configs"] if job["job_name"] == "flink"]
    keep = re.compile(flink["metric_relabel_configs"][0]["regex"])
    asked = {name for expression in EXPRESSIONS.values() for name in named(expression) if name.startswith("flink_")}
    assert asked
    assert [name for name in asked if not keep.fullmatch(name)] == []


def test_every_alert_has_a_passage_and_a_test() -> None:
    """The runbook's anchor is a heading of the page, the alert's tests say that it fires and that it doesn't."""
    tested = yaml.safe_load(ALERTS.with_name("alerts_test.yml").read_text())["tests"]
    cases = [case for test in tested for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            page, _, anchor = rule["annotations"]["runbook"].partition("#")
            headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, rule["alert"]
            assert rule["alert"] in fires & silent
            assert rule["annotations"]["summary"]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("s = '$symbol'", "s = 'BTCUSDT'"),
        ("s IN (${several})", "s IN ('BTCUSDT','O''NE')"),
        ("s IN ($all)", "s IN (symbol)"),
        ("$__timeFilter(c.t)", "c.t BETWEEN '2023-11-14T22:13:20.000+00:00' AND '2023-11-14T23:13:20.000+00:00'"),
        ("$__timeGroupAlias(t, $__interval)", 'floor(extract(epoch from t)/30)*30 AS "time"'),
        ("$__timeGroup(t,'1d')", "floor(extract(epoch from t)/86400)*86400"),
        ("$__timeFrom()::timestamptz", "'2023-11-14T22:13:20.000+00:00'::timestamptz"),
    ],
)
def test_variables_and_macros_are_filled_in_as_grafana_does(query: str, wanted: str) -> None:
    """By the examples of Grafana's documentation."""
    assert grafana.sql(query, LOOK, VARIABLES) == wanted


def test_a_macro_that_grafana_lacks_is_a_fault() -> None:
    """A slip in a query is no SQL by chance."""
    with pytest.raises(AssertionError, match=r"\$__timeFilters"):
        grafana.sql("$__timeFilters(t)", LOOK)
