"""What the serving benchmark feeds: windows as the job publishes them, and who runs on which core."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from klinestream.market.codec import encode_event
from klinestream.market.events import SECOND_MS
from klinestream.market.topics import PUBLISHED_HEADER, WINDOWS
from klinestream.runtime.kafka import Record, open_publisher
from klinestream.runtime.sections import KafkaConfig
from tests.serving import SLIDE_MS, now_ms, window_at

SYMBOLS = tuple(f"COIN{number:03}USDT" for number in range(200))
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
_AFTER_MS = 100  # a second's windows leave the job so long after its end
_MADE_AHEAD_MS = 60


class Load:
    """Two windows a symbol a second, all of a second's at once, until it is stopped; remembers when each was published."""

    def __init__(self, bootstrap_servers: str, symbols: Sequence[str] = SYMBOLS) -> None:
        """Start at once."""
        self._symbols = symbols
        self._publisher = open_publisher(KafkaConfig(bootstrap_servers=bootstrap_servers, client="confluent-kafka"), "bench-windows")
        self._began_ms = now_ms() // SECOND_MS * SECOND_MS
        self._published_ms: dict[int, list[int]] = {}
        self._running = threading.Event()
        self._running.set()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Publish nothing until `go_on`."""
        self._running.clear()

    def go_on(self) -> None:
        """Publish again."""
        self._running.set()

    def stop(self) -> None:
        """End."""
        self._ended = True
        self._running.set()
        self._thread.join()
        self._publisher.close(10)

    def published_ms(self, symbols: npt.NDArray[np.int64], ends_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """When windows, given by number of symbol and end, were published."""
        assert self._thread.is_alive(), "expected the load to go on, it has ended: see the log"
        first, last = min(self._published_ms), max(self._published_ms)
        table = np.zeros(((last - first) // SLIDE_MS + 1, len(self._symbols)), np.int64)
        for end_ms, at_ms in tuple(self._published_ms.items()):
            table[(end_ms - first) // SLIDE_MS] = at_ms
        return np.asarray(table[(ends_ms - first) // SLIDE_MS, symbols])

    def _run(self) -> None:
        second_ms = self._began_ms
        while True:
            second_ms = max(second_ms + SECOND_MS, now_ms() // SECOND_MS * SECOND_MS)
            due_ms = second_ms + _AFTER_MS
            time.sleep(max(0, due_ms - _MADE_AHEAD_MS - now_ms()) / 1000)
            self._running.wait()
            if self._ended:
                return
            ends = (second_ms, second_ms + SLIDE_MS)
            values = [[encode_event(window_at(symbol, end, self._began_ms - 200 * SECOND_MS)) for symbol in self._symbols] for end in ends]
            time.sleep(max(0, due_ms - now_ms()) / 1000)
            for end_ms, of_end in zip(ends, values, strict=True):
                self._published_ms[end_ms] = [
                    self._publish(symbol, end_ms, value) for symbol, value in zip(self._symbols, of_end, strict=True)
                ]
            self._publisher.flush(10)

    def _publish(self, symbol: str, end_ms: int, value: bytes) -> int:
        at_ms = now_ms()
        headers = ((PUBLISHED_HEADER, str(at_ms).encode()),)
        self._publisher.publish(Record(WINDOWS.name, symbol.encode(), value, end_ms - 1, headers))
        return at_ms


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What this thread starts runs on this core alone, threads and processes; where the system can't, it runs anywhere."""
    if not _CORES:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_CORES[core % len(_CORES)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
