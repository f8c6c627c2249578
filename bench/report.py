"""What a benchmark found: a table for the eye, JSON for the record, with the machine it ran on."""

import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("apache-flink", "kafka-python", "confluent-kafka", "orjson", "numpy", "websocket-client", "uvicorn")


class Report:
    """Rows of one benchmark, collected in the order they come."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._load = os.getloadavg()[0]
        self._console = Console(width=140)

    def row(self, what: str, **values: Any) -> None:
        """One line of the table; prints it at once, since a benchmark takes its time."""
        self.rows.append({"what": what, **values})
        self._console.print(f"[dim]{self.name}:[/] {what}", *(f"{key}={_shown(value)}" for key, value in values.items()))

    def note(self, text: str) -> None:
        """Something a reader of the figures has to know."""
        self.notes.append(text)

    def write(self) -> None:
        """Print the table and write the JSON."""
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        table = Table(*columns, title=self.name)
        for row in self.rows:
            table.add_row(*(_shown(row.get(column, "")) for column in columns))
        self._console.print(table)
        for note in self.notes:
            self._console.print(f"  {note}")
        RESULTS.mkdir(exist_ok=True)
        found = {"name": self.name, "machine": machine() | {"load_before": self._load}, "rows": self.rows, "notes": self.notes}
        (RESULTS / f"{self.name}.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "cpu": _cpu(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and max."""
    found = np.percentile(np.asarray(values, float), [50, 99, 100])
    return dict(zip(("p50", "p99", "max"), (round(float(value), 1) for value in found), strict=True))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _shown(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
