"""Every query that a dashboard asks PostgreSQL: of its panels, its choosers and its marks."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deploy.dashboards.__main__ import files
from tests import grafana
from tests.grafana import ALL, Look

_BOARDS: dict[str, dict[str, Any]] = {
    name.removesuffix(".json").removeprefix("klinestream-"): json.loads(text) for name, text in files().items()
}
_CHOSEN: dict[str, dict[str, str]] = {
    "market": {"symbol": "BTCUSDT", "interval": "1m"},
    "signals": {"symbol": ALL, "interval": ALL, "rule": ALL},
}


@dataclass(frozen=True)
class Asked:
    """A query of a dashboard, where it stands, and what Grafana makes of its rows: time_series, table, annotation or variable."""

    board: str
    title: str
    sql: str
    shape: str

    @property
    def name(self) -> str:
        """Dashboard, panel and place."""
        return f"{self.board}: {self.title}"

    def statement(self, look: Look, **chosen: Any) -> str:
        """As PostgreSQL sees it; by default of BTCUSDT by the minute, or of everything."""
        return grafana.sql(self.sql, replace(look, chosen=_CHOSEN.get(self.board, {}) | chosen), _variables(self.board))


def empty(rows: Callable[[str], Sequence[Any]], look: Look, **chosen: Any) -> list[str]:
    """Names of those that give nothing; `rows` runs a statement."""
    return [name for name, each in ASKED.items() if not rows(each.statement(look, **chosen))]


def _variables(board: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _BOARDS[board].get("templating", {}).get("list", [])
    return found


def _all() -> Iterator[Asked]:
    for name, board in _BOARDS.items():
        for variable in _variables(name):
            yield Asked(name, f"variable {variable['name']}", variable["query"], "variable")
        for mark in board.get("annotations", {}).get("list", []):
            yield Asked(name, mark["name"], mark["target"]["rawSql"], "annotation")
        for panel in grafana.panels(board):
            for target in panel["targets"]:
                if "rawSql" in target:
                    yield Asked(name, f"{panel['title']} {target['refId']}", target["rawSql"], target["format"])


ASKED = {each.name: each for each in _all()}
"""By name."""
