"""Puts the model's tables into docs/scale.md, and nowhere else a figure of it: `python -m bench.scale_page`.

<!-- scale: symbols -->
…
<!-- end of scale -->
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import ceil
from typing import Any

import orjson

from bench.report import RESULTS
from bench.scale_costs import Costs, Line, read, records_a_day
from bench.scale_model import Market, Need, kept, limits, needs, servers
from bench.scale_pods import MARKETS, Pod, pods
from klinestream.market.topics import BY_NAME, TOPICS

PAGE = RESULTS.parents[1] / "docs" / "scale.md"
_BLOCK = re.compile(r"(?P<begin><!-- scale: (?P<name>[a-z ]+) -->\n).*?(?P<end><!-- end of scale -->\n)", re.DOTALL)
_STORES = ("postgres", "clickhouse")
_MANY = 1400
_TRADES_A_SECOND = 30_000
_OF_ROWS = dict.fromkeys(("rows_per_s", "rows_a_second", "rows_s"), "rows/s") | dict.fromkeys(
    ("row_bytes", "bytes_a_row", "bytes_per_row"), "bytes a row"
)
_PART_NAMES = {"windows: Python": "windows: Python workers", "candles: Python": "candles: Python workers"}


def main() -> None:
    """Fill the page, if there is anything to fill it from."""
    if (RESULTS / "scale.json").exists():
        PAGE.write_text(filled(PAGE.read_text(), read()))


def filled(text: str, costs: Costs) -> str:
    """The page with its tables made anew. Raises KeyError for one that nobody makes."""
    return _BLOCK.sub(lambda found: f"{found['begin']}\n" + "\n".join(TABLES[found["name"]](costs)) + f"\n\n{found['end']}", text)


def _symbols(costs: Costs, lines: str, digits: int) -> list[str]:
    found: dict[str, Line] = {part: line for part, line in getattr(costs, lines).items() if part != "standin"}
    places = [place for place, _ in next(iter(found.values())).points]
    heads = ("", *(f"{place:,} symbols" for place in places), "without any", "each 1,000", "furthest off the line")
    rows = [
        (
            _PART_NAMES.get(part, part),
            *(f"{value:,.{digits}f}" for _, value in line.points),
            # Nothing has no sign.
            f"{round(line.at_zero, digits) + 0.0:,.{digits}f}",
            f"{round(1000 * line.each, digits) + 0.0:,.{digits}f}",
            f"{round(max(line.residuals, key=abs), digits) + 0.0:+,.{digits}f}",
        )
        for part, line in found.items()
    ]
    sums = [sum(dict(line.points)[place] for line in found.values()) for place in places]
    rows.append(("all, one of each", *(f"{value:,.{digits}f}" for value in sums), "", "", ""))
    return _table(heads, rows)


def _topics(costs: Costs) -> list[str]:
    heads = (
        "topic",
        "records a symbol and day",
        "bytes a record",
        "MB a symbol and day",
        "in the archive: bytes a record",
        "MB a symbol and day",
    )
    rows = []
    for one in kept(_MANY, costs):
        name = one.topic.name
        archived = costs.archive_bytes.get(name, 0.0)
        rows.append(
            (
                f"`{name}`",
                f"{records_a_day(name):,}",
                f"{costs.log_bytes[name].at(_MANY):,.0f}",
                f"{one.gb_a_day * 1000 / _MANY:,.2f}",
                f"{archived:,.0f}",
                f"{one.archive_gb_a_day * 1000 / _MANY:,.2f}",
            )
        )
    day, archive = (sum(getattr(one, name) for one in kept(_MANY, costs)) * 1000 / _MANY for name in ("gb_a_day", "archive_gb_a_day"))
    return _table(heads, [*rows, ("all", "", "", f"{day:,.2f}", "", f"{archive:,.2f}")])


def _kept(costs: Costs) -> list[str]:
    counts = [market.symbols for market in MARKETS.values() if market.venues == 1]
    heads = ("topic", "is to reach back, hours", *(f"at {count:,} symbols: hours, GB" for count in counts))
    rows = []
    for name in (one.topic.name for one in kept(counts[-1], costs)):
        held = {count: next(one for one in kept(count, costs) if one.topic.name == name) for count in counts}
        rows.append(
            (f"`{name}`", f"{BY_NAME[name].retention_ms / 3_600_000:,.0f}", *(f"{one.hours:,.0f}, {one.gb:.1f}" for one in held.values()))
        )
    return _table(heads, rows)


def _clients(_: Costs) -> list[str]:
    rows = [row for row in orjson.loads((RESULTS / "scale.json").read_bytes())["rows"] if row["part"] == "clients"]
    heads = (
        "clients",
        "symbols each",
        "server's CPU, ms a second",
        "p50 ms",
        "p99 ms",
        "messages a client and second",
        "kB a client and second",
    )
    columns = ("p50", "p99", "messages_a_client_and_second", "kb_a_client_and_second")
    return _table(
        heads,
        [
            (
                f"{row['clients']:,}",
                str(row["followed"]),
                f"{row['server_cpu_ms_a_second']:,}",
                *(f"{row.get(name, ''):}" for name in columns),
            )
            for row in rows
        ],
    )


def _limits(costs: Costs) -> list[str]:
    found = limits(MARKETS["market"], costs)
    return _table(
        ("part", "is full when", "at", "what moves it"),
        [(_PART_NAMES.get(one.part, one.part), one.what, f"{_round(one.at):,} {one.unit}", one.knob) for one in found],
    )


def _sizing(costs: Costs, name: str) -> list[str]:
    found = needs(MARKETS[name], costs)
    heads = ("part", "pods", "cores each", "memory each, MB", "in, MB/s", "out, MB/s", "disk each, GB", "beyond what was measured")
    return [*_table(heads, map(_need, found)), "", _sum(found)]


def _need(need: Need) -> tuple[str, ...]:
    beyond = f"{need.beyond:.1f} times" if need.beyond > 1.05 else "no"
    network = (f"{need.in_mb_s:,.2f}", f"{need.out_mb_s:,.2f}")
    return (
        need.part,
        f"{need.pods:,}",
        f"{need.cores:.2f}",
        f"{_tens(need.memory_mb):,}",
        *network,
        f"{need.disk_gb:,.0f}" if need.disk_gb else "",
        beyond,
    )


def _sum(found: Sequence[Need]) -> str:
    cores, memory_gb = sum(one.all_cores for one in found), sum(one.all_memory_gb for one in found)
    broker, server = (next(one for one in found if one.part == part) for part in ("broker", "server"))
    archive = next(one for one in found if one.part == "archive")
    return (
        f"All together {sum(one.pods for one in found):,} pods, {cores:,.1f} cores busy in the mean and {memory_gb:,.0f} GB of memory; "
        f"{broker.pods * broker.disk_gb:,.0f} GB on brokers' disks; {archive.disk_gb * archive.pods:,.0f} GB of archive; "
        f"{server.pods * server.out_mb_s * 8 / 1000:,.2f} Gbit/s to viewers."
    )


def _pods(costs: Costs) -> list[str]:
    heads = ("part", *(_named(market) for market in MARKETS.values()))
    found = {name: {pod.part: pod for pod in pods(market, costs)} for name, market in MARKETS.items()}
    parts = next(iter(found.values()))
    return _table(heads, [(part, *(_pod(found[name][part]) for name in found)) for part in parts])


def _pod(pod: Pod) -> str:
    disk = f", {pod.disk_gi:,} GiB" if pod.disk_gi else ""
    return f"{pod.replicas:,} × {pod.cpu_request} CPU, {pod.memory_request_mi:,}–{pod.memory_limit_mi:,} MiB{disk}"


def _named(market: Market) -> str:
    venues = f" × {market.venues}" if market.venues > 1 else ""
    return f"{market.symbols:,} symbols{venues}, {market.viewers:,} viewers"


def _days(costs: Costs) -> list[str]:
    further = next(row for row in orjson.loads((RESULTS / "features.json").read_bytes())["rows"] if row["what"] == "each further hour")
    found = {name: kept(market.symbols, costs) for name, market in MARKETS.items()}
    rows: list[tuple[str, ...]] = [("", *(_named(market) for market in MARKETS.values()))]
    archived = [sum(one.archive_gb_a_day for one in found[name]) * market.venues for name, market in MARKETS.items()]
    rows.append(("archive, GB", *(f"{value:,.2f}" for value in archived)))
    rows.append(("the same, a year", *(f"{365 * value:,.0f}" for value in archived)))
    logged = [sum(one.gb_a_day for one in found[name]) * market.venues for name, market in MARKETS.items()]
    rows.append(("topics, GB, one copy, while they are kept", *(f"{value:,.1f}" for value in logged)))
    seconds = [24 * further["s"] * market.symbols * market.venues / 1400 for market in MARKETS.values()]
    rows.append(("replayed into features on two threads, s", *(f"{value:,.0f}" for value in seconds)))
    return _table(rows[0], rows[1:])


def _databases(_: Costs) -> list[str]:
    """What their own benchmarks say of rows, once they have been taken."""
    rows: list[tuple[str, str, str, str]] = []
    for store in _STORES:
        path = next((path for path in (RESULTS / f"store_{store}.json", RESULTS / f"{store}.json") if path.exists()), None)
        if path is None:
            rows.append((store, "not measured", "", ""))
            continue
        measured = orjson.loads(path.read_bytes())
        told = ((row["what"], _told(row)) for row in measured["rows"])
        rows += [(store, what, values, measured["machine"]["time"][:10]) for what, values in told if values]
    return _table(("database", "what", "measured", "taken"), rows)


def _feeds(_: Costs) -> list[str]:
    """Trades and books by what comes, since that doesn't follow from the number of symbols."""
    trades, windows, books = (_by_name(name) for name in ("trades", "trade_windows", "books"))
    feed = trades["feed, confluent-kafka, 1,400 symbols"]
    job = windows["job, live, 30 s"]
    book = books["feed, confluent-kafka, every 1,000 ms"]
    cores = (
        feed["cpu_us_a_trade"] * _TRADES_A_SECOND / 1e6,
        job["job_cpu_ms_a_second"] / 1000 * _TRADES_A_SECOND / job["trades_a_second"],
        book["cpu_us_an_update"] * 10 * _MANY / 1e6,
    )
    heads = ("", "load", "cores busy", "a process takes at most")
    return _table(
        heads,
        [
            ("feed of trades", f"{_TRADES_A_SECOND:,} trades/s", f"{cores[0]:.2f}", f"{_round(feed['trades_a_second']):,} trades/s"),
            (
                "trade windows job, its task manager",
                f"{_TRADES_A_SECOND:,} trades/s",
                f"{cores[1]:.2f}",
                f"{_round(windows['its second half']['trades_a_second']):,} trades/s",
            ),
            (
                "feed of books, each published once a second",
                f"{_MANY:,} busy symbols, ten updates each a second",
                f"{cores[2]:.2f}",
                f"{_round(book['updates_a_second_at_most'] / 10):,} busy symbols",
            ),
        ],
    )


def _by_name(name: str) -> dict[str, dict[str, Any]]:
    return {row["what"]: row for row in orjson.loads((RESULTS / f"{name}.json").read_bytes())["rows"]}


def _told(row: dict[str, Any]) -> str:
    return ", ".join(f"{value:,} {_OF_ROWS[name]}" for name, value in row.items() if name in _OF_ROWS)


def _sources(costs: Costs) -> list[str]:
    return _table(
        ("figures", "from", "taken", "the machine's load before"),
        [(one.figures, f"`bench/results/{one.file}`", one.taken, one.load) for one in costs.sources],
    )


def _servers(costs: Costs) -> list[str]:
    market = MARKETS["venues"]
    each = servers(market, costs)
    partitions = sum(topic.partitions for topic in TOPICS)
    copies = partitions * market.venues * market.replicas
    return [
        f"{each * market.venues:,} servers for {market.viewers:,} viewers: {each} a venue, one of them to spare. "
        f"{partitions} partitions a venue, with all copies {copies:,} on the brokers."
    ]


TABLES: dict[str, Callable[[Costs], list[str]]] = {
    "symbols": partial(_symbols, lines="cpu_ms", digits=1),
    "memory": partial(_symbols, lines="memory_mb", digits=0),
    "topics": _topics,
    "kept": _kept,
    "clients": _clients,
    "limits": _limits,
    **{f"sizing {name}": partial(_sizing, name=name) for name in MARKETS},
    "pods": _pods,
    "days": _days,
    "databases": _databases,
    "servers": _servers,
    "feeds": _feeds,
    "sources": _sources,
}


def _round(value: float) -> int:
    """Two figures: more would say what nobody knows."""
    most = 10 ** max(0, len(str(int(value))) - 2)
    return int(value // most * most)


def _tens(value: float) -> int:
    return ceil(value / 10) * 10


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(heads), "|" + "---|" * len(heads), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
