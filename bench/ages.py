"""Data age: for each symbol at each moment, how old the newest published record was then. From a topic, afterwards."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import orjson

from klinestream.market.topics import PUBLISHED_HEADER
from klinestream.runtime.kafka import Record

Ints = npt.NDArray[np.int64]


def data_ages(
    records: Iterable[Record], symbol: str, time: str, *, began_ms: int, ended_ms: int, every_ms: int = 100
) -> tuple[Ints, dict[str, Ints]]:
    """Times (n,), and by symbol its age at each of them (n,), in ms. `symbol` and `time` are the fields' names on the wire."""
    seen: dict[str, list[tuple[int, int]]] = {}
    for record in records:
        value = orjson.loads(record.value or b"")
        seen.setdefault(value[symbol], []).append((int(dict(record.headers)[PUBLISHED_HEADER]), value[time]))
    times = np.arange(began_ms, ended_ms, every_ms)
    ages = {}
    for name, mine in seen.items():
        published, closed = np.array(sorted(mine), np.int64).T
        newest = np.maximum.accumulate(closed)
        place = np.searchsorted(published, times, side="right") - 1
        ages[name] = times - newest[np.maximum(place, 0)]
    return times, ages
