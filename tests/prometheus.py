"""A real Prometheus for tests, and what the parts of klinestream tell it: their own registries, each metric with a series."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from deploy.dashboards.__main__ import files
from klinestream.archive.metrics import ArchiveMetrics
from klinestream.ingest.metrics import Metrics as IngestMetrics
from klinestream.models.metrics import ModelMetrics
from klinestream.replay.proof.metrics import ProofMetrics
from klinestream.replay.repairs.metrics import RepairMetrics
from klinestream.runtime.alert_metrics import AlertMetrics
from klinestream.runtime.metrics import MetricsServer
from klinestream.stores.postgres.metrics import PostgresMetrics
from producer.feed_metrics import FeedMetrics
from producer.metrics import Metrics as ProducerMetrics
from server.metrics import Metrics as ServerMetrics
from tests.eventually import eventually
from tests.grafana import panels
from tests.ports import free_ports

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
ALERTS = CONFIG.with_name("alerts.yml")
FLINK = ROOT / "tests" / "golden" / "flink_metrics.txt"
SCRAPE_S = 1
RATES_S = 10
"""What rates reckon with between two scrapes: on a busy machine many a one comes late, or not within its second."""
_UNPACKED = ROOT / ".tools" / "prometheus" / "usr" / "bin"
_NAMES = re.compile(r"\b(?:klinestream|flink|process)_\w+")
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum"), "gauge": ("",)}


def program(name: str) -> Path | None:
    """Prometheus' program of this name: installed, or as scripts/prometheus.sh unpacks it."""
    unpacked = _UNPACKED / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    return Path(found) if found else None


def registries() -> dict[str, CollectorRegistry]:
    """Job of prometheus.yml → the registry of the part that is scraped there, every metric with a series."""

    def producer() -> CollectorRegistry:
        metrics = ProducerMetrics()
        metrics.tally(0)
        return metrics.registry

    def feed() -> CollectorRegistry:
        metrics = FeedMetrics("trades", "binance")
        metrics.tally(0)
        return metrics.registry

    def sink() -> CollectorRegistry:
        metrics = PostgresMetrics()
        metrics.stored.set(1)
        return metrics.registry

    found = {
        "producer": producer(),
        "feeds": feed(),
        "repair": RepairMetrics().registry,
        "alerts": AlertMetrics().registry,
        "archive": ArchiveMetrics().registry,
        "proof": ProofMetrics().registry,
        "model": ModelMetrics().registry,
        "postgres-sink": sink(),
        "server": ServerMetrics(started_ms=0).registry,
        "ingest": IngestMetrics().registry,
    }
    for registry in found.values():
        for metric in {each for each in registry._collector_to_names if isinstance(each, MetricWrapperBase)}:
            if metric._labelnames and not metric._metrics:
                metric.labels(*metric._labelnames)
    return found


def told() -> set[str]:
    """The name of every series that a part of ours, or Flink, tells."""
    names = {
        family.name + suffix for registry in registries().values() for family in registry.collect() for suffix in _SUFFIXES[family.type]
    }
    process = {f"process_{name}" for name in ("start_time_seconds", "resident_memory_bytes", "cpu_seconds_total")}
    return names | process | {line.split("{")[0] for line in FLINK.read_text().splitlines() if not line.startswith("#")}


def named(expression: str) -> set[str]:
    """Names of metrics of ours and Flink's in an expression; those of a pattern, each that it matches."""
    patterns = re.findall(r'__name__=~"([^"]+)"', expression)
    plain = re.sub(r"\{[^}]*\}", "", expression)
    return set(_NAMES.findall(plain)) | {name for pattern in patterns for name in told() if re.fullmatch(pattern, name)}


def _of_panels() -> dict[str, str]:
    found = {}
    for name, text in files().items():
        board = name.removeprefix("klinestream-").removesuffix(".json")
        for panel in panels(json.loads(text)):
            found |= {f"{board}: {panel['title']} {target['refId']}": target["expr"] for target in panel["targets"] if "expr" in target}
    return found


PANELS = _of_panels()
"""Every expression of the dashboards, by dashboard, panel and place."""
RULES = {f"alert {rule['alert']}": rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}


class Prometheus:
    """Scrapes some addresses once a second, by the jobs of prometheus.yml, with its rules."""

    def __init__(self, folder: Path, targets: dict[str, list[str]]) -> None:
        """Start it; `targets`: job → addresses."""
        found = program("prometheus")
        assert found
        [port] = free_ports(1)
        config = yaml.safe_load(CONFIG.read_text())
        config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
        config["rule_files"] = [str(ALERTS)]
        config["scrape_configs"] = [_moved(job, targets[job["job_name"]]) for job in config["scrape_configs"] if job["job_name"] in targets]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10)
        self._log = (folder / "prometheus.log").open("wb")
        command = [found, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self._process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=self._log, stderr=self._log)
        self._everything = sum(map(len, targets.values()))

    def wait_until_scraped(self) -> None:
        """Return when every target has been scraped twice, which a rate takes, and answers now."""
        everything = "count_over_time(up[1m]) > 2 and up == 1"
        eventually(lambda: len(self.query(everything)) == self._everything, 60, f"every target is scraped, {self._log.name} says more")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now. Fails where it is none."""
        try:
            answer = self._http.get("/query", params={"query": expression})
        except httpx.TransportError:
            assert self._process.poll() is None, self._log.name
            return []
        if answer.status_code == 503:  # it is starting
            return []
        found = answer.json()
        assert found["status"] == "success", (expression, found)
        return list(found["data"]["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Its groups of rules, with their health."""
        return list(self._http.get("/rules").json()["data"]["groups"])

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
        self._http.close()


@contextmanager
def scraped_parts() -> Iterator[dict[str, list[str]]]:
    """Job → address, of servers of metrics as the parts run them, and of one with what Flink told."""
    with ExitStack() as closing:
        targets = {}
        for job, registry in registries().items():
            [port] = free_ports(1)
            server = MetricsServer("127.0.0.1", port, registry, list)
            closing.callback(server.close)
            targets[job] = [f"127.0.0.1:{port}"]
        targets["flink"] = [closing.enter_context(_serving(FLINK.read_bytes()))]
        yield targets


@contextmanager
def _serving(text: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text)

        log_message: Callable[..., None] = staticmethod(lambda *_: None)  # type: ignore[assignment]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _moved(job: dict[str, Any], addresses: list[str]) -> dict[str, Any]:
    kept = {key: value for key, value in job.items() if not key.endswith("_sd_configs")}
    return kept | {"static_configs": [{"targets": addresses}]}
