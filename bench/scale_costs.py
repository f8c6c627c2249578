"""What things cost, out of bench/results: by symbols, by clients, by records. Each figure knows the file and the day it is from.

cost = what it takes without any + what each takes more       least squares over what was measured; residuals are kept
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bench.report import RESULTS
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import DAY_MS, INTERVALS
from klinestream.market.topics import AGGREGATES, BY_NAME, CANDLES, INDICATORS, KLINES, PROVISIONAL_CANDLES, SYMBOL_PARTITIONS, WINDOWS
from klinestream.runtime.config import load
from server.candles.store import SYMBOLS_MOST

_SECONDS_A_DAY = DAY_MS // SECOND_MS
_STATE_SYMBOLS = 1400 // SYMBOL_PARTITIONS
"""A partition's share of the symbols in bench/results/candles.json."""
_TOPIC, _ARCHIVE = ": topic ", ": archive of "
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """What was measured, and the straight line through it that fits best.

    >>> line = Line(((0, 1.0), (10, 3.0)))
    >>> round(line.at_zero, 6), round(line.each, 6), round(line.at(20), 6), line.most
    (1.0, 0.2, 5.0, 10)
    """

    points: tuple[tuple[float, float], ...]

    @cached_property
    def _fitted(self) -> tuple[float, float]:
        places, values = np.array(self.points, float).T
        each, at_zero = np.polyfit(places, values, 1)
        return float(at_zero), float(each)

    @property
    def at_zero(self) -> float:
        """What it takes without any."""
        return self._fitted[0]

    @property
    def each(self) -> float:
        """What each takes more."""
        return self._fitted[1]

    @property
    def most(self) -> float:
        """As far as it was measured."""
        return max(place for place, _ in self.points)

    @property
    def residuals(self) -> tuple[float, ...]:
        """Measured less the line's."""
        return tuple(value - self.at_zero - self.each * place for place, value in self.points)

    def at(self, place: float) -> float:
        """By the line; never below zero."""
        return max(0.0, self.at_zero + self.each * place)

    def place_of(self, value: float) -> float:
        """Where the line comes to a value; no bound where it doesn't grow."""
        return (value - self.at_zero) / self.each if self.each > 0 else float("inf")

    def within(self, bound: float) -> float:
        """The furthest place up to which nothing measured has passed a bound, whatever the line says; 0 where the first one has."""
        held = takewhile(lambda point: point[1] <= bound, sorted(self.points))
        return max((place for place, _ in held), default=0.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured, straight from point to point, and level beyond the outermost.

    >>> Curve(((50, 128.0), (1400, 74.0))).at(725), Curve(((50, 128.0), (1400, 74.0))).at(5000)
    (101.0, 74.0)
    """

    points: tuple[tuple[float, float], ...]

    def at(self, place: float) -> float:
        """What it is there."""
        places, values = zip(*sorted(self.points), strict=True)
        return float(np.interp(place, places, values))


@dataclass(frozen=True, slots=True)
class Source:
    """Where figures are from."""

    figures: str
    file: str
    taken: str
    load: str
    """The machine's, before it began."""


@dataclass(frozen=True)
class Costs:
    """All that the model needs. Processor time in ms of a core a second, memory in MB (10^6 bytes)."""

    cpu_ms: Mapping[str, Line]
    """Part → by symbols."""
    memory_mb: Mapping[str, Line]
    log_bytes: Mapping[str, Curve]
    """Topic → bytes a record in the broker's log, by symbols: with more of them batches are larger, and lz4 makes less of each record."""
    archive_bytes: Mapping[str, float]
    """Topic → bytes a record in the archive's files, of the run with most symbols: a day's files are large ones."""
    clients_cpu_ms: float
    """The server's, for each client."""
    followed_cpu_ms: float
    """The server's, for each symbol that a client follows."""
    clients_kb: float
    """The server's memory, for each client."""
    client_bytes: Line
    """Bytes a second to a client, by symbols that it follows."""
    latency_ms: Line
    """p99 from a window's publishing to its clients, by clients of a server that each follow `latency_followed`."""
    latency_followed: int
    store_kb: float
    """The server's candles and indicators of a symbol, once it holds as many as it may."""
    state_kb: float
    """The candles job's state of a symbol, its day full."""
    candles_burst_ms: float
    """What midnight costs the candles operator for each symbol: all intervals close."""
    klines_a_second: float
    """What the windows job takes at most, warm, with parallelism 1."""
    frames_a_second: float
    """What a producer takes at most."""
    frame_bytes: float
    """A kline as the exchange sends it."""
    symbols_of_a_server: int
    """As many as a server's store takes."""
    sources: tuple[Source, ...] = ()


@cache
def records_a_day(topic: str) -> int:
    """How many records a symbol has in a topic on a day, by what a record is.

    >>> records_a_day("crypto_kline_data"), records_a_day("crypto_candles")
    (86400, 1903)
    """
    candles = sum(DAY_MS // length_ms for length_ms in INTERVALS.values())
    slides = _SECONDS_A_DAY * SECOND_MS // load(None).windows.slide_ms
    found = {KLINES: _SECONDS_A_DAY, WINDOWS: slides, PROVISIONAL_CANDLES: _SECONDS_A_DAY, CANDLES: candles, INDICATORS: candles}
    return (found | {AGGREGATES: DAY_MS // INTERVALS["1m"]}).get(BY_NAME[topic], 0)


def read(folder: Path = RESULTS) -> Costs:
    """What the results say. Raises FileNotFoundError where one is missing: `python -m bench scale` makes it."""
    scale = _rows(folder / "scale.json")
    others = [row for file in ("candles", "throughput", "producer", "serving") for row in _rows(folder / f"{file}.json")]
    live = [row for row in scale if row["part"] == "live"]
    clients = [row for row in scale if row["part"] == "clients" and row["clients"]]
    alone = next(row for row in scale if row["part"] == "clients" and not row["clients"])
    each, followed = _shares(clients, alone["server_cpu_ms_a_second"])
    usual = [row for row in clients if row["followed"] == clients[0]["followed"]]
    same = [row for row in clients if row["clients"] == clients[-1]["clients"]]
    by_name = {row["what"]: row for row in others}
    midnight = by_name["engine, all: midnight, all intervals close"]
    warm = next(row for row in scale if row["part"] == "records")
    return Costs(
        cpu_ms=_lines(live, "cpu_ms_a_second"),
        memory_mb=_lines(live, "mb"),
        log_bytes=_of_topics(live) | {INDICATORS.name: Curve(((1, warm["bytes_a_record"]),))},
        archive_bytes=_of_archive(live) | {INDICATORS.name: warm["archive_bytes_a_record"]},
        clients_cpu_ms=each,
        followed_cpu_ms=followed,
        clients_kb=by_name["5,000 idle clients, following 20 symbols"]["kb_a_client"],
        client_bytes=Line(tuple((row["followed"], 1000 * row["kb_a_client_and_second"]) for row in same)),
        latency_ms=Line(tuple((row["clients"], row["p99"]) for row in usual)),
        latency_followed=usual[0]["followed"],
        store_kb=sum(row["kb_a_symbol"] for row in scale if "kb_a_symbol" in row),
        state_kb=by_name["state: a partition's checkpoint, its day full"]["bytes"] / _STATE_SYMBOLS / 1e3,
        candles_burst_ms=(midnight["step_ms"] + midnight["text_ms"]) / midnight["indicators"] * len(INTERVALS),
        klines_a_second=by_name["its second half, warm"]["rows_a_second"] * load(None).windows.slide_ms / SECOND_MS,
        frames_a_second=by_name["confluent-kafka"]["frames_a_second"],
        frame_bytes=next(row["bytes"] for row in scale if row["what"] == "a kline's frame"),
        symbols_of_a_server=SYMBOLS_MOST,
        sources=tuple(_sources(folder, scale)),
    )


def _shares(clients: Sequence[Row], alone_ms: float) -> tuple[float, float]:
    """What a client costs, and what a symbol that it follows does: least squares over all cases, reading taken off."""
    terms = np.array([[row["clients"], row["clients"] * row["followed"]] for row in clients], float)
    spent = np.array([row["server_cpu_ms_a_second"] - alone_ms for row in clients])
    each, followed = np.linalg.lstsq(terms, spent, rcond=None)[0]
    if followed < 0:  # it is lost in what a message costs, whatever it holds
        each, followed = np.linalg.lstsq(terms[:, :1], spent, rcond=None)[0][0], 0.0
    return float(each), float(followed)


def _lines(live: Iterable[Row], column: str) -> dict[str, Line]:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in live:
        if column in row:
            points.setdefault(row["what"].partition(" symbols: ")[2], []).append((row["symbols"], row[column]))
    return {part: Line(tuple(found)) for part, found in points.items()}


def _of_topics(live: Sequence[Row]) -> dict[str, Curve]:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in live:
        if _TOPIC in row["what"]:
            points.setdefault(row["what"].partition(_TOPIC)[2], []).append((row["symbols"], row["bytes_a_record"]))
    return {topic: Curve(tuple(found)) for topic, found in points.items()}


def _of_archive(live: Sequence[Row]) -> dict[str, float]:
    most = max(row["symbols"] for row in live)
    return {row["what"].partition(_ARCHIVE)[2]: row["bytes_a_record"] for row in live if _ARCHIVE in row["what"] and row["symbols"] == most}


def _rows(path: Path) -> list[Row]:
    found: list[Row] = orjson.loads(path.read_bytes())["rows"]
    return found


def _sources(folder: Path, scale: Sequence[Row]) -> Iterable[Source]:
    told = {
        "live": "processor time and memory by symbols; bytes of a record in topics and archive",
        "clients": "what a client costs the server: processor time, bytes, latency",
        "records": "bytes of a record of indicators",
        "held": "the server's store of candles and indicators",
    }
    for part, figures in told.items():
        mine = [row for row in scale if row["part"] == part]
        days, loads = sorted({row["taken"][:10] for row in mine}), [row["load"] for row in mine if "load" in row]
        yield Source(figures, "scale.json", ", ".join(days), f"{min(loads)} to {max(loads)}" if loads else "")
    for figures, file in (
        ("the candles job's state, and what midnight costs it", "candles.json"),
        ("klines that the windows job takes at most", "throughput.json"),
        ("frames that a producer takes at most", "producer.json"),
        ("the server's memory, for each client", "serving.json"),
    ):
        machine = orjson.loads((folder / file).read_bytes())["machine"]
        yield Source(figures, file, machine["time"][:10], f"{machine['load_before']:.1f}")
