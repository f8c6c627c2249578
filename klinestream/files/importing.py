"""An import, from files to where their rows go; killed anywhere, it goes on where it was.

    files ─► rows, judged ─► spool: Parquet by stretch of time ─► a stretch at a time, in order ─► topics or archive
                  └─► rejected ◄────────────────────────────────────── repeats of other content

What is done stands in `state.json` of the import's folder: each file once it is in the spool, each stretch once all of it is
acknowledged. A file that was being read is read again; of a stretch that was being written what is there already is passed over.
A stretch is a day, or 31 days of candles. Memory holds a million rows of a file; then, of a stretch, symbols that together have about
a million, and all rows of one that has more alone.
"""

import csv
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from klinestream.files.cleaning import Terms, clean
from klinestream.files.ordering import CONFLICT, Ordered, Place, ordered
from klinestream.files.reading import Wanted, cells
from klinestream.files.targets import Form, Target
from klinestream.market.errors import ConfigError
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import DAY_MS
from klinestream.runtime.lock import FileLock, LockedError

_ROWS_MOST = 1_000_000
_HOLES_TOLD_MOST = 100
_STATE = "state.json"
_NEW: dict[str, Any] = {"files": 0, "stretches": [], "carried": {}, "position": {}, "written": False, "finished": False}
_REJECTED = ("file", "row", "reason", "raw")

Progress = Callable[[str, float], None]


@dataclass(slots=True)
class Counts:
    """What became of the rows so far."""

    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    unordered: int = 0
    filled: int = 0
    accepted: int = 0
    there: int = 0
    """Rows of these that were there already; in a topic also those that lie before what is there."""
    backwards: int = 0
    """Trades whose ids go back as time goes on."""
    holes: int = 0
    missing: int = 0
    """Klines within them."""
    first_holes: list[tuple[str, int, int]] = field(default_factory=list)
    first_ms: int | None = None
    last_ms: int | None = None
    proved: int = 0

    def told(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Counts":
        """Again."""
        return cls(**told | {"rejected": Counter(told["rejected"]), "units": Counter(told["units"])})


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be imported, and how."""

    files: tuple[Path, ...]
    wanted: Wanted
    terms: Terms
    form: Form
    folder: Path
    fill_quiet: bool = False

    @property
    def stretch_ms(self) -> int:
        """How much time is put in order at once."""
        return DAY_MS if self.form.length_ms == SECOND_MS else 31 * DAY_MS


class Import:
    """One import, new or gone on with. Its methods raise ConfigError, ArchiveError and BrokerError."""

    def __init__(self, plan: Plan) -> None:
        """Raises ConfigError, also where the same import is under way."""
        self._plan = plan
        self._spool = plan.folder / "spool"
        try:
            self._lock = FileLock(plan.folder / "lock")
        except LockedError as error:
            raise ConfigError(f"the same import is under way (process {error.holder}): end it, or let it go on") from None
        told = self._read_state() or _NEW | {"counts": Counts().told()}
        self._files: int = told["files"]
        self._stretches: set[int] = set(told["stretches"])
        self._carried = {symbol: (each[0], each[1], each[2]) for symbol, each in told["carried"].items()}
        self._position: dict[str, int] = told["position"]
        self.has_written: bool = told["written"]
        """Whether an earlier run may have put rows where they go."""
        self.counts = Counts.of(told["counts"])
        self.finished: bool = told["finished"]

    @property
    def rejected(self) -> Path | None:
        """Where the rejected rows stand; None without any."""
        place = self._plan.folder / "rejected.csv"
        return place if place.exists() else None

    def read(self, progress: Progress) -> None:
        """All files that aren't in the spool yet."""
        self._spool.mkdir(parents=True, exist_ok=True)
        for number in range(self._files, len(self._plan.files)):
            for half in self._spool.glob(f"*/{number}-*.parquet"):
                half.unlink()
            self._read_file(number, self._plan.files[number], progress)
            self._files = number + 1
            self._save()

    def write(self, target: Target | None, progress: Progress) -> None:
        """All stretches that aren't done yet; without a target only look at them."""
        every = sorted(int(folder.name) for folder in self._spool.iterdir())
        left = [stretch for stretch in every if stretch not in self._stretches]
        if target is not None and left:
            oldest_us = self._scan(left[0]).select(pl.col("time_us").min()).collect().item()
            target.begin(oldest_us // 1000, self._position)
            self.has_written = True
            self._save()
        for done, stretch in enumerate(left, len(every) - len(left)):
            progress("writing" if target else "looking", done / len(every))
            conflicts: list[Place] = []
            for symbols in self._groups(stretch):
                conflicts += self._put(self._scan(stretch).filter(pl.col("symbol").is_in(symbols)).collect(), target)
            self._write_rejected(f"stretch-{stretch:06}", [(file, row, CONFLICT, raw) for file, row, raw in conflicts])
            self.counts.rejected.update({CONFLICT: len(conflicts)} if conflicts else {})
            self._position = target.position() if target else {}
            self._stretches.add(stretch)
            self._save()
        if target is not None:
            target.finish([str(path) for path in self._plan.files], self.counts.accepted, self._position)

    def finish(self) -> None:
        """Put the rejected rows together, and let go of what else was kept."""
        parts = sorted(self._plan.folder.glob("rejected-*.part"))
        if parts:
            aside = self._plan.folder / "rejected.aside"
            with aside.open("w", newline="") as file:
                csv.writer(file).writerow(_REJECTED)
                for part in parts:
                    with part.open(newline="") as source:
                        shutil.copyfileobj(source, file)
            aside.replace(self._plan.folder / "rejected.csv")
        self.finished = True
        self._save()
        for part in parts:
            part.unlink()
        shutil.rmtree(self._spool)

    def close(self) -> None:
        """Let another one go on."""
        self._lock.release()

    def _scan(self, stretch: int) -> pl.LazyFrame:
        return pl.scan_parquet(self._spool / f"{stretch}" / "*.parquet")

    def _groups(self, stretch: int) -> Iterator[list[str]]:
        """Symbols that together have about as many rows as memory is to hold, those included that may be filled in."""
        group, rows = list[str](), 0
        filled = self._plan.stretch_ms // self._plan.form.length_ms if self._plan.fill_quiet else 0
        for symbol, there in self._scan(stretch).group_by("symbol").len().sort("symbol").collect().rows():
            count = max(there, filled)
            if group and rows + count > _ROWS_MOST:
                yield group
                group, rows = [], 0
            group.append(symbol)
            rows += count
        yield group

    def _put(self, rows: pl.DataFrame, target: Target | None) -> list[Place]:
        """Some symbols' rows of a stretch; returns those that say other than what was there first."""
        plan = self._plan
        found = ordered(rows, plan.terms.kind, plan.form.length_ms, self._carried, fill_quiet=plan.fill_quiet)
        self._carried = found.carried
        if target is None:
            self._count(found, 0)
            return found.conflicts
        taken = target.put(found.rows)
        self._count(found, taken.there)
        self.counts.accepted -= len(taken.conflicts)
        return found.conflicts + taken.conflicts

    def _read_file(self, number: int, path: Path, progress: Progress) -> None:
        held: list[pa.Table] = []
        flushes = rows_held = 0
        (self._plan.folder / f"rejected-file-{number:06}.part").unlink(missing_ok=True)
        for batch in cells(path, self._plan.wanted):
            found = clean(batch, self._plan.terms, number)
            self.counts.read += len(batch.numbers) + len(batch.broken)
            self.counts.units.update(found.units)
            self.counts.rejected.update(reason for _, reason, _ in found.rejected)
            self._write_rejected(f"file-{number:06}", [(number, *each) for each in found.rejected], append=True)
            if found.table.num_rows:
                held.append(found.table)
                rows_held += found.table.num_rows
            if rows_held >= _ROWS_MOST:
                self._flush(held, f"{number}-{flushes:06}")
                held, rows_held, flushes = [], 0, flushes + 1
            progress(path.name, (number + batch.done) / len(self._plan.files))
        if held:
            self._flush(held, f"{number}-{flushes:06}")

    def _flush(self, held: list[pa.Table], name: str) -> None:
        whole = pl.DataFrame(pa.concat_tables(held)).with_columns((pl.col("time_us") // (self._plan.stretch_ms * 1000)).alias("_stretch"))
        for (stretch,), rows in whole.partition_by("_stretch", as_dict=True, include_key=False).items():
            folder = self._spool / f"{stretch}"
            folder.mkdir(exist_ok=True)
            rows.write_parquet(folder / f"{name}.parquet", compression="lz4")

    def _write_rejected(self, name: str, rows: list[tuple[int, int, str, str]], *, append: bool = False) -> None:
        place = self._plan.folder / f"rejected-{name}.part"
        if rows:
            with place.open("a" if append else "w", newline="") as file:
                csv.writer(file).writerows((self._plan.files[number], *rest) for number, *rest in rows)

    def _count(self, found: Ordered, there: int) -> None:
        counts, rows = self.counts, found.rows
        counts.repeated += found.repeated
        counts.unordered += found.unordered
        counts.filled += found.filled
        counts.accepted += len(rows)
        counts.there += there
        counts.backwards += found.backwards
        counts.holes += len(found.holes)
        counts.missing += sum((to_ms - from_ms) // self._plan.form.length_ms for _, from_ms, to_ms in found.holes)
        counts.first_holes += found.holes[: max(0, _HOLES_TOLD_MOST - len(counts.first_holes))]
        counts.proved += int((rows["proof"] == "ids").sum())
        if len(rows):
            first, last = int(rows["time_us"].min()) // 1000, int(rows["time_us"].max()) // 1000  # type: ignore[arg-type]  # integers
            counts.first_ms = first if counts.first_ms is None else min(first, counts.first_ms)
            counts.last_ms = last if counts.last_ms is None else max(last, counts.last_ms)

    def _read_state(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = orjson.loads((self._plan.folder / _STATE).read_bytes())
        except FileNotFoundError:
            return None
        except orjson.JSONDecodeError:
            raise ConfigError(f"{self._plan.folder / _STATE} can't be read: remove {self._plan.folder}, and import anew") from None
        return found

    def _save(self) -> None:
        told = {
            "files": self._files,
            "stretches": sorted(self._stretches),
            "carried": self._carried,
            "position": self._position,
            "written": self.has_written,
            "counts": self.counts.told(),
            "finished": self.finished,
        }
        aside = self._plan.folder / f"{_STATE}.aside"
        with aside.open("wb") as file:
            file.write(orjson.dumps(told))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._plan.folder / _STATE)
