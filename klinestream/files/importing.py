"""An import, from files to where their rows go; killed anywhere, it goes on where it was.

    files ─► rows, judged ─► spool: Parquet by stretch of time ─► a stretch at a time, in order ─► topics or archive
                  └─► rejected ◄────────────────────────────────────── repeats of other content

What is done stands in `state.json` of the import's folder: each file once it is in the spool, each stretch once all of it is
acknowledged. A file that was being read is read again; of a stretch that was being written what is there already is passed over.
Memory holds some rows of a file, then the rows of one stretch: an hour for topics, a day for the archive, 31 days of candles.
"""

import csv
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from klinestream.files.cleaning import Terms, clean

from klinestream.files.ordering import Ordered, ordered
from klinestream.files.reading import Wanted, cells
from klinestream.files.targets import Form, Target
from klinestream.market.errors import ConfigError
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import DAY_MS, HOUR_MS

_BUFFERED_MOST = 1_000_000
_HOLES_TOLD_MOST = 100
_STATE = "state.json"
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
    """Rows that were there already."""
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
    stretch_ms: int
    fill_quiet: bool = False


def stretch_of(form: Form, *, to_archive: bool) -> int:
    """How much time is put in order at once."""
    if form.length_ms != SECOND_MS:
        return 31 * DAY_MS
    return DAY_MS if to_archive else HOUR_MS


class Import:
    """One import, new or gone on with. Raises ConfigError, ArchiveError, BrokerError."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._spool = plan.folder / "spool"
        told = self._read_state()
        self.is_new = told is None
        told = told or {"files": 0, "stretches": [], "carried": {}, "position": {}, "counts": Counts().told(), "finished": False}
        self._files: int = told["files"]
        self._stretches: set[int] = set(told["stretches"])
        self._carried = {symbol: (each[0], each[1], each[2]) for symbol, each in told["carried"].items()}
        self._position: dict[str, int] = told["position"]
        self.counts = Counts.of(told["counts"])
        self.finished: bool = told["finished"]

    @property
    def has_written(self) -> bool:
        """Whether an earlier run may have put rows where they go."""
        return bool(self._stretches) or (not self.is_new and self._files == len(self._plan.files))

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
            target.begin(left[0] * self._plan.stretch_ms, self._position)
        for done, stretch in enumerate(left, len(every) - len(left)):
            progress("writing" if target else "looking", done / len(every))
            rows = pl.read_parquet(self._spool / f"{stretch}" / "*.parquet", glob=True)
            plan = self._plan
            found = ordered(rows, plan.terms.kind, plan.form.length_ms, self._carried, fill_quiet=plan.fill_quiet)
            self._write_rejected(f"stretch-{stretch}", [(plan.files[file].name, row, why, "") for file, row, why in found.conflicts])
            there, self._position = (0, {}) if target is None else target.put(found.rows)
            self._count(found, there)
            self._carried = found.carried
            self._stretches.add(stretch)
            self._save()
        if target is not None:
            target.close([path.name for path in self._plan.files])

    def finish(self, name: str) -> Path | None:
        """Put the rejected rows together, and let the spool go; returns where they are, None if there are none."""
        parts = sorted(self._plan.folder.glob("rejected-*.part"))
        place = None
        if parts:
            place = self._plan.folder / f"{name}.rejected.csv"
            aside = place.with_suffix(".aside")
            with aside.open("w", newline="") as file:
                csv.writer(file).writerow(_REJECTED)
                for part in parts:
                    with part.open(newline="") as source:
                        shutil.copyfileobj(source, file)
            aside.replace(place)
            for part in parts:
                part.unlink()
        self.finished = True
        self._save()
        shutil.rmtree(self._spool)
        return place

    def _read_file(self, number: int, path: Path, progress: Progress) -> None:
        held: list[pa.Table] = []
        flushes = rows_held = 0
        rejected: list[tuple[str, int, str, str]] = []
        (self._plan.folder / f"rejected-file-{number:06}.part").unlink(missing_ok=True)
        for batch in cells(path, self._plan.wanted):
            found = clean(batch, self._plan.terms, number)
            self.counts.read += len(batch.numbers) + len(batch.broken)
            self.counts.units.update(found.units)
            self.counts.rejected.update(reason for _, reason, _ in found.rejected)
            rejected += [(path.name, row, why, raw) for row, why, raw in found.rejected]
            self._write_rejected(f"file-{number:06}", rejected, append=True)
            rejected = []
            if found.table.num_rows:
                held.append(found.table)
                rows_held += found.table.num_rows
            if rows_held >= _BUFFERED_MOST:
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

    def _write_rejected(self, name: str, rows: Sequence[tuple[str, int, str, str]], *, append: bool = False) -> None:
        place = self._plan.folder / f"rejected-{name}.part"
        if rows:
            with place.open("a" if append else "w", newline="") as file:
                csv.writer(file).writerows(rows)

    def _count(self, found: Ordered, there: int) -> None:
        counts, rows = self.counts, found.rows
        counts.repeated += found.repeated
        counts.unordered += found.unordered
        counts.filled += found.filled
        counts.accepted += len(rows)
        counts.there += there
        counts.rejected.update(why for *_, why in found.conflicts)
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
            "counts": self.counts.told(),
            "finished": self.finished,
        }
        aside = self._plan.folder / f"{_STATE}.aside"
        with aside.open("wb") as file:
            file.write(orjson.dumps(told))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._plan.folder / _STATE)
