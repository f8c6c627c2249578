"""Where the local stack keeps its things, and where the files that ship with it are.

.klinestream/
├── jars/             the broker's and the connector's jars, verified
├── kafka/            the topics' logs, bounded by their retention
├── flink/            checkpoints, savepoints, the cluster's configuration and scratch space
├── archive/          the topics as Parquet files
├── postgres/         the database of --with postgres, and its password
├── logs/             a file a part, bounded by rotation
├── market            which market the topics hold: the stand-in's, or an exchange's
└── lock              held by the `klinestream up` that runs here
"""

import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from klinestream.market.errors import StackError

_CHECKOUT = Path(__file__).resolve().parents[2]


def shipped(name: str) -> Path:
    """A file or folder that ships with klinestream: beside this module when installed, at the root of a checkout."""
    for folder in (Path(__file__).resolve().parent, _CHECKOUT):
        if (folder / name).exists():
            return folder / name
    raise StackError(f"expected {name} beside klinestream/stack or in the checkout, found neither: install klinestream again")


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one local stack; all paths are absolute."""

    root: Path

    @classmethod
    def of(cls, state_dir: Path) -> "Layout":
        """The layout under `state_dir`, with all folders made."""
        layout = cls(state_dir.absolute())
        layout.make()
        return layout

    def make(self) -> None:
        """Make all folders that are missing. Raises StackError."""
        try:
            for folder in (self.jars, self.kafka, self.flink_conf, self.checkpoints, self.savepoints, self.flink_scratch, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(f"expected to write to {self.root}: {error}; give room or permission, or set stack.state_dir") from None

    def start_over(self) -> None:
        """Forget everything but the jars, savepoints, which were made on purpose, and the archive, which is put aside as `archive-1`, …"""
        if self.archive.exists():
            self.archive.rename(next(folder for number in count(1) if not (folder := self.root / f"archive-{number}").exists()))
        for folder in (self.kafka, self.flink_conf, self.checkpoints, self.flink_scratch, self.postgres, self.logs):
            shutil.rmtree(folder, ignore_errors=True)
        self.market.unlink(missing_ok=True)
        self.make()

    @property
    def jars(self) -> Path:
        """Verified jars."""
        return self.root / "jars"

    @property
    def kafka(self) -> Path:
        """The broker's configuration and data."""
        return self.root / "kafka"

    @property
    def flink_conf(self) -> Path:
        """The configuration that the cluster runs with."""
        return self.root / "flink" / "conf"

    @property
    def checkpoints(self) -> Path:
        """One folder a job run, in it `chk-<n>`."""
        return self.root / "flink" / "checkpoints"

    @property
    def savepoints(self) -> Path:
        """Savepoints that `klinestream job stop` makes."""
        return self.root / "flink" / "savepoints"

    @property
    def flink_scratch(self) -> Path:
        """What Flink may lose: spill files, uploaded jars, process numbers."""
        return self.root / "flink" / "scratch"

    @property
    def archive(self) -> Path:
        """The topics as Parquet files."""
        return self.root / "archive"

    @property
    def postgres(self) -> Path:
        """The database's data, and its password."""
        return self.root / "postgres"

    @property
    def logs(self) -> Path:
        """Logs of all parts."""
        return self.root / "logs"

    @property
    def market(self) -> Path:
        """Notes which market the topics hold."""
        return self.root / "market"

    @property
    def lock(self) -> Path:
        """Held by the supervisor that runs here."""
        return self.root / "lock"
