"""Snapshots of a prover's state, so that a stretch can be proved without replaying days: arrays and JSON, nothing that runs.

    ROOT/snapshots/v1/<fingerprint of the settings>/<end of a proved stretch, ms>.snapshot

A digest of 128 bits, then arrays as numpy's `.npz` has them. A snapshot is taken only of a stretch that was proved, with all symbols. It
is there as a whole or not at all; one that is damaged, of other settings or another version is refused, and the replay starts from each
`since` instead.
"""

import io
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson
import structlog

from klinestream.archive.files import Files
from klinestream.market.candle_engine import CandleSettings
from klinestream.market.candles import Minutes
from klinestream.market.errors import ArchiveError
from klinestream.market.study import Study
from klinestream.market.windows import Names, WindowSettings, WindowState
from klinestream.replay.proof.candles import CandleReplay, IndicatorReplay, Run
from klinestream.replay.proof.prover import State
from klinestream.replay.proof.results import Symbols
from klinestream.replay.proof.windows import WindowReplay

log = structlog.get_logger()

VERSION = 1
FOLDER = "snapshots"
_DIGEST = 16
_WINDOWS = ("newest", "since", "points", "ring", "remainders", "rsi")
Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Those of an archive that fit some settings."""

    files: Files
    windows: WindowSettings
    candles: CandleSettings
    stretch_ms: int

    @property
    def fingerprint(self) -> str:
        """Of all that a state depends on."""
        study = Study(self.candles.indicators, self.candles.signals)
        told = repr((self.windows.computed, self.candles.ascending, study.fingerprint, study.names, self.stretch_ms))
        return blake2b(told.encode(), digest_size=8).hexdigest()

    def place(self, to_ms: int) -> str:
        """Where the one of a stretch's end is."""
        return f"{FOLDER}/v{VERSION}/{self.fingerprint}/{to_ms}.snapshot"

    def ends(self) -> list[int]:
        """The ends of stretches of which there are snapshots, in order."""
        found = self.files.system.glob(self.files.path(f"{FOLDER}/v{VERSION}/{self.fingerprint}/*.snapshot"))
        names = [str(path).rpartition("/")[2].removesuffix(".snapshot") for path in found]
        return sorted(int(name) for name in names if name.isdigit())

    def save(self, to_ms: int, state: State, keep: int) -> None:
        """Keep a state, and no more than the newest `keep`. Raises ArchiveError."""
        sink = io.BytesIO()
        told: dict[str, Any] = {"version": VERSION, "fingerprint": self.fingerprint, "to": to_ms}
        np.savez_compressed(sink, told=_text(told), **_arrays(state))
        body = sink.getvalue()
        self.files.put(self.place(to_ms), _digest(body) + body)
        for old in self.ends()[:-keep]:
            self.files.system.rm_file(self.files.path(self.place(old)))

    def load(self, to_ms: int, symbols: Symbols) -> State | None:
        """The state at a stretch's end; None where there is none that can be trusted."""
        body = self.files.read(self.place(to_ms))
        if body is None:
            return None
        try:
            return self._state(body, to_ms, symbols)
        except (ArchiveError, ValueError, KeyError, TypeError) as error:
            log.warning(
                "a snapshot is damaged or foreign, replaying from each since instead", snapshot=self.place(to_ms), reason=str(error)
            )
            return None

    def _state(self, body: bytes, to_ms: int, symbols: Symbols) -> State:
        digest, body = body[:_DIGEST], body[_DIGEST:]
        if digest != _digest(body):
            raise ArchiveError("its bytes aren't those that were written")
        with np.load(io.BytesIO(body), allow_pickle=False) as found:
            arrays: Arrays = {name: found[name] for name in found.files}
        told = orjson.loads(arrays.pop("told").tobytes())
        expected = {"version": VERSION, "fingerprint": self.fingerprint, "to": to_ms}
        if told != expected:
            raise ArchiveError(f"expected {expected}, got {told}")
        return _state(arrays, (self.windows, self.candles), symbols)


def _arrays(state: State) -> Arrays:
    window, runs = state.windows.saved()
    arrays: Arrays = {f"window_{name}": getattr(window, name) for name in _WINDOWS}
    builder, indicators = state.candles.builder, state.indicators.runs
    rows = np.zeros((state.indicators.study.rows, 0))
    arrays |= {
        "minute_newest": builder.minutes.newest,
        "minute_table": builder.minutes.table,
        "longer": builder.longer,
        "run_last": np.array([run.last for run in indicators.values()], np.int64),
        "run_told": np.array([run.told for run in indicators.values()], np.int64),
        "run_values": np.stack([run.values for run in indicators.values()], axis=1) if indicators else rows,
        "names": _text({"windows": runs, "candles": list(state.candles.columns), "began": state.candles.began, "runs": list(indicators)}),
    }
    return arrays


def _state(arrays: Arrays, settings: tuple[WindowSettings, CandleSettings], symbols: Symbols) -> State:
    windows, candles = settings
    names = orjson.loads(arrays["names"].tobytes())
    columns = {name: place for place, name in enumerate(names["windows"])}
    state = WindowState(windows.computed, *(arrays[f"window_{name}"] for name in _WINDOWS))
    of = {name: place for place, name in enumerate(names["candles"])}
    minutes = Minutes(arrays["minute_newest"], arrays["minute_table"])
    told = arrays.get("run_told", arrays["run_last"])  # older ones have none
    rows = zip(names["runs"], arrays["run_last"], arrays["run_values"].T, told, strict=True)
    runs = {
        (str(symbol), int(interval), int(since)): Run(int(last), values.copy(), int(until))
        for (symbol, interval, since), last, values, until in rows
    }
    return State(
        WindowReplay(windows, symbols, state, Names(columns)),
        CandleReplay(candles, symbols, of, names["began"], minutes, arrays["longer"]),
        IndicatorReplay(candles, symbols, runs),
    )


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=_DIGEST).digest()


def _text(told: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(orjson.dumps(told), np.uint8)
