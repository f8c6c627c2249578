"""Which of a span's klines are there."""

from dataclasses import dataclass, field

import numpy as np

from klinestream.market.decimals import Ints

_HOLES_TOLD_MOST = 20


@dataclass(slots=True)
class Grid:
    """Open times as they come, in order, next to what there should be."""

    next_ms: int
    length_ms: int
    missing: int = 0
    """How many klines."""
    holes: list[tuple[int, int]] = field(default_factory=list)
    """The first of them: open time of the first missing kline, and of the first one there again."""

    def take(self, open_times: Ints) -> None:
        """The next ones."""
        if not len(open_times):
            return
        expected = np.concatenate([[self.next_ms], open_times[:-1] + self.length_ms])
        for place in np.flatnonzero(open_times != expected).tolist():
            self.lose(int(expected[place]), int(open_times[place]))
        self.next_ms = int(open_times[-1]) + self.length_ms

    def end(self, to_ms: int) -> None:
        """Nothing comes after."""
        if self.next_ms < to_ms:
            self.lose(self.next_ms, to_ms)

    def lose(self, from_ms: int, to_ms: int) -> None:
        """These are not there."""
        self.missing += (to_ms - from_ms) // self.length_ms
        if len(self.holes) < _HOLES_TOLD_MOST:
            self.holes.append((from_ms, to_ms))
