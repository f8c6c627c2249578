"""Puts what was measured into the pages that show it: `python -m bench.figures`.

A page holds a table between two comments, and nowhere else a figure of that benchmark:

    <!-- figures: serving latency -->
    …
    <!-- end of figures -->
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from bench.report import RESULTS

DOCS = Path(__file__).parents[1] / "docs"
PAGES = (DOCS / "benchmarks.md", DOCS / "essays" / "fan-out.md")
_BLOCK = re.compile(r"(?P<begin><!-- figures: (?P<name>[a-z ]+) -->\n).*?(?P<end><!-- end of figures -->\n)", re.DOTALL)
Rows = Mapping[str, Mapping[str, Any]]
"""What was measured → its values."""


def main() -> None:
    """Fill every page."""
    for page in PAGES:
        page.write_text(filled(page.read_text()))


def filled(text: str) -> str:
    """A page with the figures of bench/results; those that haven't been measured stay."""

    def fill(found: re.Match[str]) -> str:
        benchmark, _, table = found["name"].partition(" ")
        path = RESULTS / f"{benchmark}.json"
        if not path.exists():
            return found[0]
        measured = orjson.loads(path.read_bytes())
        rows = {row["what"]: row for row in measured["rows"]}
        return found["begin"] + "\n" + "\n".join(_TABLES[table](rows)) + f"\n\n{_taken(measured['machine'])}\n\n" + found["end"]

    return _BLOCK.sub(fill, text)


def _taken(machine: Mapping[str, Any]) -> str:
    day, _, time = str(machine["time"]).partition("T")
    return (
        f"Taken {day} {time[:5]} UTC on {machine['cores']} threads of {machine['cpu']}, Python {machine['python']}; "
        f"the machine's load was {machine['load_before']:.1f} before it began."
    )


def _latency(rows: Rows) -> list[str]:
    columns = ("p50", "p99", "max", "server_cpu_us_a_message", "messages_a_second", "mb_a_second", "clients_own_p99")
    heads = ("p50 ms", "p99 ms", "max ms", "server's CPU a message, µs", "messages/s", "MB/s", "of p99 the clients' own, ms")
    served = [f"{lists}, {server}" for lists in ("own lists", "shared lists") for server in ("klinestream", "plain broadcast")]
    return _table(("", *heads), [(what, *_cells(rows[what], columns)) for what in served])


def _ratios(rows: Rows) -> list[str]:
    names = {"p99": "p99", "server_cpu_us_a_message": "server's CPU a message"}
    lines = [
        (f"{of}: {told}", *_cells(rows[f"{of}, {name}, klinestream / plain broadcast"], ("ratio", "least", "most")))
        for of in ("own lists", "shared lists")
        for name, told in names.items()
    ]
    return _table(("klinestream / plain broadcast", "median of the turns", "least", "most"), lines)


def _stalled(rows: Rows) -> list[str]:
    found = [name for name in rows if name.startswith("the others' clients, ")]
    lines = [(name.partition(", ")[2], *_cells(rows[name], ("p50", "p99", "max", "closed_as_too_slow"))) for name in found]
    return _table(("beside a thousand", "p50 ms", "p99 ms", "max ms", "closed as too slow"), lines)


def _idle(rows: Rows) -> list[str]:
    found = [name for name in rows if "idle clients" in name]
    lines = [(name, *_cells(rows[name], ("mb", "kb_a_client", "server_cpu_ms_a_second"))) for name in found]
    return _table(("", "MB", "kB a client", "server's CPU, ms a second"), lines)


def _spans(rows: Rows) -> list[str]:
    columns = ("s", "cpu_s", "million_windows_s", "peak_mb")
    found = [name for name in rows if "symbols, " in name]
    lines = [(name, *_cells(rows[name], columns)) for name in found]
    further = rows["each further hour"]
    lines.append(("each further hour", f"{further['s']:,}", "", f"{further['million_windows_s']:,}", ""))
    return _table(("", "s", "CPU, s", "million windows/s", "peak, MB"), lines)


def _rivals(rows: Rows) -> list[str]:
    columns = ("s", "cpu_s", "peak_mb", "ratio", "least", "most")
    lines = [(name.rpartition(", ")[2], *_cells(rows[name], columns)) for name in rows if name.startswith("a quarter of an hour, ")]
    return _table(("a quarter of an hour of 1,400 symbols", "s", "CPU, s", "peak, MB", "ratio", "least", "most"), lines)


def _feed(rows: Rows) -> list[str]:
    lines = [(name.partition(", ")[2], *_cells(rows[name], _FEED)) for name in rows if name.startswith("feed, ")]
    return _table(("", "trades/s", "CPU a trade, µs", "lost", "memory, MB"), lines)


def _updates(rows: Rows) -> list[str]:
    lines = [(name.partition(", ")[2], *_cells(rows[name], _UPDATES)) for name in rows if name.startswith("feed, ")]
    return _table(
        ("", "CPU an update, µs", "% of a core at 500/s", "updates/s at most", "CPU an update then, µs", "lost", "memory, MB"), lines
    )


def _queries(rows: Rows) -> list[str]:
    lines = [(name, *_cells(row, ("rows", "p50_ms", "p95_ms", "first_ms"))) for name, row in rows.items() if "p50_ms" in row]
    return _table(("dashboard: panel", "rows", "p50 ms", "p95 ms", "first ms"), lines)


_UPDATES = (
    "cpu_us_an_update",
    "percent_of_a_core_at_500",
    "updates_a_second_at_most",
    "cpu_us_an_update_at_most",
    "lost",
    "memory_mb",
)
_FEED = ("trades_a_second", "cpu_us_a_trade", "lost", "memory_mb")
_TABLES: dict[str, Callable[[Rows], list[str]]] = {
    "latency": _latency,
    "ratios": _ratios,
    "stalled": _stalled,
    "idle": _idle,
    "spans": _spans,
    "rivals": _rivals,
    "feed": _feed,
    "updates": _updates,
    "queries": _queries,
}


def _cells(row: Mapping[str, Any], columns: tuple[str, ...]) -> list[str]:
    return [f"{row[column]:,}" for column in columns]


def _table(heads: tuple[str, ...], lines: list[tuple[str, ...]]) -> list[str]:
    return [_line(heads), "|" + "---|" * len(heads), *map(_line, lines)]


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
