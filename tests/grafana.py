"""What Grafana makes of a dashboard's query before a database sees it, as its documentation and its plugin for PostgreSQL have it.

    $symbol       one value: as it is, quotes doubled            'BTCUSDT' stands in quotes in the query
                  several:   each in quotes, joined by commas    symbol IN ($symbol)
                  all of them, and the variable says what that is called: that, as it is
    $__interval   how long a step of the panel is, such as 30s
    $__timeFilter(column)             column BETWEEN '…' AND '…'
    $__timeFrom(), $__timeTo()        '…'
    $__timeGroup(column, step)        floor(extract(epoch from column)/step)*step; …Alias calls it "time"

Variables are filled in first, macros then; a macro's arguments hold no parentheses. Times are UTC, to the millisecond. For Prometheus,
`$__rate_interval` is at least four scrapes long, and `$__range` is the time shown.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ALL = "$__all"
_MACRO = re.compile(r"\$(\w+)\(([^)]*)\)")
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")
_STEP = re.compile(r"(\d+)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SCRAPES = 4


@dataclass(frozen=True)
class Look:
    """How somebody looks at a dashboard: from when to when, by which step, and what is chosen of each variable."""

    from_ms: int
    to_ms: int
    step: str = "30s"
    chosen: Mapping[str, str | Sequence[str]] = field(default_factory=dict)


def sql(query: str, look: Look, variables: Sequence[Mapping[str, Any]] = ()) -> str:
    """A panel's query as PostgreSQL sees it; `variables` are the dashboard's. Fails on what is not known."""
    known = {variable["name"]: variable for variable in variables}

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        return found[0] if name.startswith("__") else _value(known[name], look.chosen[name])

    filled = _VARIABLE.sub(value, query).replace("$__interval", look.step)
    return _MACRO.sub(lambda found: _macro(found[1], [argument.strip() for argument in found[2].split(",")], look), filled)


def promql(expression: str, look: Look, scrape_s: float) -> str:
    """A panel's expression as Prometheus sees it."""
    rate_s = max(_seconds(look.step) + scrape_s, _SCRAPES * scrape_s)
    spans = {"$__rate_interval": f"{rate_s:.0f}s", "$__range": f"{(look.to_ms - look.from_ms) // 1000}s", "$__interval": look.step}
    for name, span in spans.items():
        expression = expression.replace(name, span)
    assert "$" not in expression, expression
    return expression


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel that asks something."""
    yield from (panel for panel in dashboard["panels"] if panel.get("targets"))


def _value(variable: Mapping[str, Any], chosen: str | Sequence[str]) -> str:
    if chosen == ALL:
        return str(variable["allValue"])
    if isinstance(chosen, str) and not variable.get("multi") and not variable.get("includeAll"):
        return chosen.replace("'", "''")
    values = [chosen] if isinstance(chosen, str) else chosen
    return ",".join("'" + each.replace("'", "''") + "'" for each in values)


def _macro(name: str, arguments: list[str], look: Look) -> str:
    since, until = (datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds") for ms in (look.from_ms, look.to_ms))
    match name:
        case "__timeFilter":
            return f"{arguments[0]} BETWEEN '{since}' AND '{until}'"
        case "__timeFrom":
            return f"'{since}'"
        case "__timeTo":
            return f"'{until}'"
        case "__timeGroup":
            step = f"{_seconds(arguments[1].strip(chr(39))):g}"
            return f"floor(extract(epoch from {arguments[0]})/{step})*{step}"
        case "__timeGroupAlias":
            return _macro("__timeGroup", arguments, look) + ' AS "time"'
    raise AssertionError(f"expected a macro that Grafana has, got ${name}")


def _seconds(step: str) -> float:
    found = _STEP.fullmatch(step)
    assert found, f"expected a step such as 30s, got {step}"
    return int(found[1]) * _SECONDS[found[2]]
