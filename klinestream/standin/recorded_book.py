"""A recorded symbol's book: its tops and diffs as recorded, and the book at any time after the recorded snapshot."""

import itertools

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.standin.market import BookTicker, DepthDiff, DepthSnapshot, Flags, Levels
from klinestream.standin.recording import Recording

_DIFF_MS = 100


class RecordedBook:
    """The book of one symbol."""

    def __init__(self, recording: Recording) -> None:
        """The book that this recording holds."""
        self._tickers = recording.tickers
        self._depth = recording.depth
        self._snapshot = recording.snapshot

    def tickers(self, from_ms: int, to_ms: int) -> list[BookTicker]:
        """The tops sent in the span."""
        first, end = np.searchsorted(self._tickers.time_ms, (from_ms, to_ms))
        columns = (self._tickers.update_id, *self._tickers.sizes.T, self._tickers.time_ms)
        return list(map(BookTicker, *(column[first:end].tolist() for column in columns)))

    def diffs(self, from_ms: int, to_ms: int, every_ms: int) -> list[DepthDiff]:
        """The diffs sent in the span; with `every_ms` above 100 those of each such stretch as one, sent at its end."""
        if every_ms == _DIFF_MS:
            first, end = np.searchsorted(self._depth.event_ms, (from_ms, to_ms))
            return [self._diff(place, place + 1, int(self._depth.event_ms[place])) for place in range(first, end)]
        ends = np.arange(-(-from_ms // every_ms) * every_ms, to_ms, every_ms)
        bounds = np.searchsorted(self._depth.event_ms, np.append(ends - every_ms, ends[-1:]), side="right").tolist()
        stretches = zip(itertools.pairwise(bounds), ends.tolist(), strict=True)
        return [self._diff(first, end, sent_ms) for (first, end), sent_ms in stretches if first < end]

    def at(self, at_ms: int, limit: int) -> DepthSnapshot | None:
        """The book after the last diff before `at_ms`: None before the snapshot was taken, and without one."""
        end = int(np.searchsorted(self._depth.event_ms, at_ms))
        if self._snapshot is None or not end or self._depth.last_update_id[end - 1] < self._snapshot.last_update_id:
            return None
        first = int(np.searchsorted(self._depth.last_update_id, self._snapshot.last_update_id, side="right"))
        price, quantity, asks = self._levels(first, end)
        bids = _latest(np.append(self._snapshot.bids[:, 0], price[~asks]), np.append(self._snapshot.bids[:, 1], quantity[~asks]))
        offers = _latest(np.append(self._snapshot.asks[:, 0], price[asks]), np.append(self._snapshot.asks[:, 1], quantity[asks]))
        standing = [level for level in bids[::-1] if level[1]], [level for level in offers if level[1]]
        return DepthSnapshot(int(self._depth.last_update_id[end - 1]), *(tuple(side[:limit]) for side in standing))

    def _diff(self, first: int, end: int, sent_ms: int) -> DepthDiff:
        price, quantity, asks = self._levels(first, end)
        if end == first + 1:  # as recorded, in the recorded order
            bids, offers = (tuple(zip(price[side].tolist(), quantity[side].tolist(), strict=True)) for side in (~asks, asks))
        else:
            bids, offers = _latest(price[~asks], quantity[~asks])[::-1], _latest(price[asks], quantity[asks])
        return DepthDiff(int(self._depth.first_update_id[first]), int(self._depth.last_update_id[end - 1]), bids, offers, sent_ms)

    def _levels(self, first: int, end: int) -> tuple[Ints, Ints, Flags]:
        levels = slice(self._depth.first_level[first], self._depth.first_level[end])
        return self._depth.price[levels], self._depth.quantity[levels], self._depth.asks[levels]


def _latest(price: Ints, quantity: Ints) -> Levels:
    """The last quantity of each price, by rising price."""
    prices, from_end = np.unique(price[::-1], return_index=True)
    return tuple(zip(prices.tolist(), quantity[::-1][from_end].tolist(), strict=True))
