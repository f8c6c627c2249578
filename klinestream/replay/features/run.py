"""`klinestream replay features`: archived klines into windows, candles and indicators as Parquet, over all symbols and on all cores.

    symbols ─► groups, each of one partition ─► a process each ─► slices ─► files
                                                                 └─ after each slice its state: a killed run goes on from there

    OUT/_features.json    what was asked, with which settings, and which files there are
        windows/date=2026-11-22/0900-p3.parquet
        candles/date=2026-11-22/0900-p3.parquet

Which groups and slices there are follows from what is asked, and stands in the manifest, so that a run that goes on with more or fewer
processes gives the same files.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from klinestream import __version__
from klinestream.archive.files import Files
from klinestream.market.candle_engine import CandleSettings
from klinestream.market.errors import ArchiveError, ConfigError
from klinestream.market.indicators.catalogue import DEFINITIONS
from klinestream.market.intervals import DAY_MS, HOUR_MS, MINUTE_MS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINES
from klinestream.market.windows import WindowSettings
from klinestream.replay.features.group import Asked, Group, run_group
from klinestream.replay.repairs.windows import warm_up_ms
from klinestream.runtime.lock import FileLock, LockedError

MANIFEST = "_features.json"
SETS = ("basic",)
AS_OF = ("live", "final")
VERSION = 1
SYMBOLS_MOST = 512
"""Symbols of a group: with more of them a slice would take too much memory."""

_STATE = "_state"
_CELLS_MOST = 700_000  # symbols × seconds of a slice: some 300 MB a process
_SLICES_MS = (DAY_MS, 4 * HOUR_MS, 2 * HOUR_MS, HOUR_MS, 30 * MINUTE_MS, 15 * MINUTE_MS)
_TOLD_S = 0.2
_NOTHING = b"null"


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for."""

    archive: str
    out: str
    symbols: tuple[str, ...]
    from_ms: int
    to_ms: int
    as_of: str
    set: str
    windows: WindowSettings
    candles: CandleSettings

    def __post_init__(self) -> None:
        if self.set not in SETS:
            raise ConfigError(f"--set: expected {', '.join(SETS)}, got {self.set!r}")
        if self.as_of not in AS_OF:
            raise ConfigError(f"--as-of: expected {' or '.join(AS_OF)}, got {self.as_of!r}")
        if not 0 <= self.from_ms < self.to_ms:
            raise ConfigError("--from, --to: expected a span from an earlier to a later time: swap them, or give another --to")
        if self.from_ms % 1000 or self.to_ms % 1000:
            raise ConfigError("--from, --to: expected whole seconds, since klines are")
        if len(self.windows.shapes()) != 1 or self.windows.slide_ms > 1000:
            raise ConfigError(
                f"windows.size_ms, windows.slide_ms: expected windows of which all that one kline completes hold the same klines, got "
                f"{self.windows.size_ms} and {self.windows.slide_ms}: a table with a row a second can't hold others"
            )
        if not self.symbols:
            raise ConfigError("--symbols: expected symbols that the archive has in that span, found none: check --symbols, --from and --to")

    @property
    def slice_ms(self) -> int:
        """How much is computed at once."""
        most = max(map(len, self.by_partition().values()))
        return next((each for each in _SLICES_MS if min(most, SYMBOLS_MOST) * each // 1000 <= _CELLS_MOST), _SLICES_MS[-1])

    def by_partition(self) -> dict[int, list[str]]:
        """Partition → its symbols, sorted."""
        found: dict[int, list[str]] = {}
        for symbol in sorted(set(self.symbols)):
            found.setdefault(partition_of(symbol, KLINES.partitions), []).append(symbol)
        return found

    def told(self) -> dict[str, Any]:
        """What makes one folder's features differ from another's."""
        settings = {
            "windows": list(self.windows.computed),
            "candles": repr(self.candles),
            "definitions": DEFINITIONS,
            "version": __version__,
        }
        return {
            "set": self.set,
            "as_of": self.as_of,
            "from_ms": self.from_ms,
            "to_ms": self.to_ms,
            "symbols": sorted(set(self.symbols)),
            "settings": settings,
            "fingerprint": hashlib.blake2b(orjson.dumps(settings), digest_size=16).hexdigest(),
        }


def features(request: Request, jobs: int, told: Callable[[int, int], None] = lambda _done, _of: None) -> dict[str, Any]:
    """Compute what isn't there yet; returns the manifest. `told` gets how many slices of how many are done.

    Raises ConfigError where the folder holds other features, ArchiveError where files can't be read or written.
    """
    out = Files(request.out)
    lock = _locked(out)
    try:
        manifest = _begun(out, request, jobs)
        if manifest["complete"]:
            return manifest
        groups = [Group(name, tuple(symbols)) for name, symbols in manifest["groups"].items()]
        asked = _asked(request, manifest)
        files = _all(asked, groups, jobs, told)
        manifest |= {"complete": True, "files": sorted(files, key=lambda each: str(each["file"]))}
        out.put(MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        if out.system.exists(out.path(_STATE)):
            out.system.rm(out.path(_STATE), recursive=True)
        return manifest
    finally:
        lock.release()


def _locked(out: Files) -> FileLock:
    """Keep others from writing to the folder. Raises ConfigError."""
    folder = Path(out.root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / "_lock")
    except LockedError as error:
        raise ConfigError(
            f"--out: another run (process {error.holder}) writes to {folder}: let it go on, or choose another folder"
        ) from None
    except OSError as error:
        raise ConfigError(f"--out: expected to write to {folder}: {error}; give room or permission, or choose another folder") from None


def _begun(out: Files, request: Request, jobs: int) -> dict[str, Any]:
    """The folder's manifest, made anew where there is none. Raises ConfigError where it is of something else."""
    told = request.told()
    try:
        held = orjson.loads(out.read(MANIFEST) or _NOTHING)
    except orjson.JSONDecodeError:
        raise ConfigError(f"--out: {out.path(MANIFEST)} can't be read: choose another folder, or remove this one") from None
    if held is not None:
        differing = [name for name in told if held.get(name) != told[name]]
        if held.get("version") != VERSION or differing:
            raise ConfigError(
                f"--out: {request.out} holds features of another request ({', '.join(differing) or 'version'} differs): "
                "choose another folder, or remove it"
            )
        return dict(held)
    split = -(-jobs // len(request.by_partition()))
    groups = {name: symbols for partition, mine in request.by_partition().items() for name, symbols in _groups(partition, mine, split)}
    manifest = {"version": VERSION, **told, "slice_ms": request.slice_ms, "groups": groups, "complete": False, "files": []}
    out.put(MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return manifest


def _groups(partition: int, symbols: Sequence[str], split: int) -> list[tuple[str, list[str]]]:
    """The symbols of a partition in groups: enough for all processes, none too large."""
    count = min(len(symbols), max(split, -(-len(symbols) // SYMBOLS_MOST)))
    cuts = [len(symbols) * number // count for number in range(count + 1)]
    return [(f"p{partition}-{number}", list(symbols[cuts[number] : cuts[number + 1]])) for number in range(count)]


def _asked(request: Request, manifest: dict[str, Any]) -> Asked:
    start_ms = max(0, request.from_ms - warm_up_ms(request.windows)) // MINUTE_MS * MINUTE_MS
    return Asked(
        archive=request.archive,
        out=request.out,
        from_ms=request.from_ms,
        to_ms=request.to_ms,
        live=request.as_of == "live",
        windows=request.windows,
        candles=request.candles,
        start_ms=start_ms,
        slice_ms=int(manifest["slice_ms"]),
        fingerprint=str(manifest["fingerprint"]),
    )


def _all(asked: Asked, groups: Sequence[Group], jobs: int, told: Callable[[int, int], None]) -> list[dict[str, Any]]:
    of = len(asked.slices()) * len(groups)
    if min(jobs, len(groups)) == 1:
        done = 0
        found = []
        for group in groups:
            found += run_group(asked, group, lambda slices, before=done: told(before + slices, of))  # type: ignore[misc]  # mypy knows no default
            done += len(asked.slices())
        return found
    return _by_processes(asked, groups, jobs, told, of)


def _by_processes(asked: Asked, groups: Sequence[Group], jobs: int, told: Callable[[int, int], None], of: int) -> list[dict[str, Any]]:
    context = get_context("spawn")  # a fork would take the parent's Arrow threads for its own
    progress = context.Queue()
    found: list[dict[str, Any]] = []
    done: dict[str, int] = {}
    largest_first = sorted(groups, key=lambda group: -len(group.symbols))
    with ProcessPoolExecutor(min(jobs, len(groups)), context, _begin, (progress,)) as pool:
        waiting = {pool.submit(_work, asked, group) for group in largest_first}
        try:
            while waiting:
                finished, waiting = wait(waiting, _TOLD_S, FIRST_COMPLETED)
                while not progress.empty():
                    name, slices = progress.get()
                    done[name] = slices
                    told(sum(done.values()), of)
                for future in finished:
                    found += future.result()
        except BrokenProcessPool:
            raise ArchiveError(
                "a process that computed features was killed, mostly for want of memory: the same command goes on where it was; "
                "give fewer --jobs"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
    return found


_progress: Any = None


def _begin(progress: Any) -> None:
    """What a process does first: it computes with one thread, since there is a process for each core."""
    global _progress  # noqa: PLW0603  # a pool gives its workers nothing else to keep it in
    _progress = progress
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def _work(asked: Asked, group: Group) -> list[dict[str, Any]]:
    return run_group(asked, group, lambda slices: _progress.put((group.name, slices)))


def jobs_of(text: int | None) -> int:
    """How many processes: as many as there are cores, where nothing was said. Raises ConfigError."""
    if text is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if text < 1:
        raise ConfigError(f"--jobs: expected 1 or more, got {text}")
    return text
