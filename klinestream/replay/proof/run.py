"""Stretches proved one after the other: over a time, or for ever as the archive completes them."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from klinestream.archive.columns import TIMESTAMP
from klinestream.archive.files import Files, Span, current
from klinestream.market.errors import ArchiveError
from klinestream.market.events import SECOND_MS
from klinestream.market.topics import CANDLES, INDICATORS, KLINES, WINDOWS
from klinestream.market.windows import WindowSettings
from klinestream.replay.proof.metrics import ProofMetrics
from klinestream.replay.proof.prover import Prover, Stretch, stretches
from klinestream.replay.proof.snapshots import Snapshots
from klinestream.runtime.config import Config
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.signals import told_to_end
from klinestream.runtime.studies import candle_settings

log = structlog.get_logger()

_LOOK_S = 5.0
_LOW_PRIORITY = 15
_QUIET_MS = 10 * 60 * SECOND_MS
"""A partition without a record for this long holds nothing up."""
_NEWEST = 4


@dataclass(slots=True)
class Proof:
    """A prover, and the snapshots that it goes on from and leaves behind."""

    prover: Prover
    snapshots: Snapshots
    keep: int

    @classmethod
    def of(cls, config: Config, symbols: frozenset[str] = frozenset()) -> "Proof":
        """As the configuration says it. Raises ArchiveError and ConfigError."""
        files = Files(config.archive.url)
        windows = WindowSettings(config.windows.size_ms, config.windows.slide_ms, config.windows.rsi_period)
        candles = candle_settings(config)
        snapshots = Snapshots(files, windows, candles, int(config.proof.stretch_s * SECOND_MS))
        return cls(Prover(files, windows, candles, symbols), snapshots, config.proof.keep_snapshots)

    def stretches(self, spans: Iterator[tuple[int, int]]) -> Iterator[Stretch]:
        """Prove one after the other."""
        for span in spans:
            yield self.one(span)

    def one(self, span: tuple[int, int]) -> Stretch:
        """Prove a stretch, from where the one before has ended or a snapshot of that. Raises ArchiveError."""
        prover = self.prover
        if prover.reached_ms != span[0] and (state := self.snapshots.load(span[0], prover.symbols)) is not None:
            prover.state, prover.reached_ms = state, span[0]
        found = prover.prove(span)
        # A state of some symbols would be taken for all.
        if not found.different and not prover.chosen and self.keep:
            self.snapshots.save(span[1], prover.held, self.keep)
        return found


def covered(files: Files) -> tuple[int, int]:
    """From when on the archive holds klines and windows, and up to when them and what follows, by the records' times. Raises ArchiveError.

    A job that was down comes back later than the other: so each topic is asked, and its slowest partition counts.
    """
    begins, ends = [], []
    for topic in (KLINES, WINDOWS, CANDLES, INDICATORS):
        mine: dict[int, list[Span]] = {}
        for span in current(files.spans(topic.name)):
            mine.setdefault(span.partition, []).append(span)
        if not mine:
            return 0, 0
        if topic in {KLINES, WINDOWS}:
            begins.append(min(_times(files, spans[0])[0] for spans in mine.values()))
        # The newest file may hold old candles alone, which were fetched.
        newest = [max(_times(files, span)[1] for span in spans[-_NEWEST:]) for spans in mine.values()]
        ends.append(min(time_ms for time_ms in newest if time_ms > max(newest) - _QUIET_MS) + 1)
    return min(begins) + 1 - SECOND_MS, min(ends)


def _times(files: Files, span: Span) -> tuple[int, int]:
    """The least and the greatest record's time of a file."""
    try:
        with files.open(span.path) as file:
            metadata = pq.ParquetFile(file).metadata
            place = metadata.schema.names.index(TIMESTAMP)
            found = [metadata.row_group(number).column(place).statistics for number in range(metadata.num_row_groups)]
    except (OSError, pa.ArrowException, ValueError) as error:
        raise ArchiveError(f"{span.path} can't be read ({error}): `klinestream archive verify` tells what is wrong") from None
    return min((each.min for each in found), default=0), max((each.max for each in found), default=0)


def run(config: Config) -> None:
    """Prove each stretch as the archive completes it, until SIGTERM or SIGINT. Raises ArchiveError and ConfigError."""
    os.nice(_LOW_PRIORITY)
    metrics = ProofMetrics()
    with told_to_end() as ending, ExitStack() as stack:
        follower = Follower(config, metrics)
        if config.proof.metrics_port:
            server = MetricsServer(config.proof.metrics_host, config.proof.metrics_port, metrics.registry, lambda: list(follower.faults))
            stack.callback(server.close)
        follower.follow(ending)
    log.info("stopped")


class Follower:
    """Looks again and again whether the next stretch is complete."""

    def __init__(self, config: Config, metrics: ProofMetrics) -> None:
        """Finds out where an earlier run has come to. Raises ArchiveError and ConfigError."""
        self.faults: tuple[str, ...] = ()
        self._config, self._metrics = config.proof, metrics
        self._proof = Proof.of(config)
        self._length_ms = int(config.proof.stretch_s * SECOND_MS)
        ends = self._proof.snapshots.ends()
        self._next_ms = ends[-1] if ends else -1

    def follow(self, ending: threading.Event) -> None:
        """Go on until the end."""
        while not ending.is_set():
            try:
                if self.step(time.time_ns() // 1_000_000):
                    continue
            except ArchiveError as error:
                # Files become one now and then, while they are read: the next look sees them so.
                log.warning("the archive can't be read, trying again", reason=str(error))
            ending.wait(_LOOK_S)

    def step(self, now_ms: int) -> bool:
        """Prove the next stretch, if it is complete."""
        due_ms = now_ms - int(self._config.after_s * SECOND_MS)
        if self._next_ms + self._length_ms > due_ms:
            return False
        first, last = covered(self._proof.prover.files)
        if self._next_ms < 0:
            self._next_ms = max(0, first - first % self._length_ms) if last else -1
        span = self._next_ms, self._next_ms + self._length_ms
        if span[0] < 0 or span[1] > min(due_ms, last):
            return False
        began_s = time.monotonic()
        found = self._proof.one(span)
        self._next_ms = span[1]
        self._metrics.count(found, time.monotonic() - began_s)
        self._metrics.behind.set(max(0.0, (due_ms - span[1]) / SECOND_MS))
        self._tell(found)
        return True

    def _tell(self, found: Stretch) -> None:
        told = {"from_ms": found.from_ms, "to_ms": found.to_ms, "equal": found.equal, "uncompared": found.uncompared}
        if not found.different:
            log.info("a stretch is proved", **told)
            return
        first = next(one for each in found.topics.values() for one in each.differences)
        log.error("published and replayed differ", different=found.different, first=first, **told)
        self.faults = (f"{found.different} records from {found.from_ms} to {found.to_ms} differ: `klinestream verify replay` tells which",)


def chosen(files: Files, from_ms: int | None, to_ms: int | None, length_ms: int, after_ms: int) -> Iterator[tuple[int, int]]:
    """The stretches of a time, or else all that the archive holds and what follows from it. Raises ArchiveError."""
    first, last = covered(files)
    if not last:
        raise ArchiveError(f"expected klines and windows at {files.root}, found none: check archive.url, or run `klinestream archive`")
    first = max(first, from_ms) if from_ms is not None else first
    return stretches(first, min(last, to_ms) if to_ms is not None else last - after_ms, length_ms)
