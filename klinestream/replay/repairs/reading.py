"""Stretches of topics, read once from their begin to their end, whatever else comes."""

import time
from collections.abc import Callable, Iterator, Mapping

from klinestream.market.errors import BrokerError
from klinestream.runtime.kafka import Reader, Record

_POLL_S = 0.5
_SILENCE_S = 15.0  # a broker that is there gives what it holds in milliseconds; one that starts, in seconds
_MARKERS_S = 5.0  # the markers of transactions take offsets that no reader ever sees: after this long nothing else is left

Places = Mapping[tuple[str, int], tuple[int, int]]
"""(topic, partition) → offset to begin with, and offset before which to end."""


def nothing_said() -> None:
    """Nobody asks for an end."""


class Stretches:
    """Reads them one after the other, over one reader. Not for several threads at once."""

    def __init__(self, reader: Reader, clock_s: Callable[[], float] = time.monotonic, going_on: Callable[[], None] = nothing_said) -> None:
        """`going_on` is called again and again while it reads; it ends that by raising."""
        self.reader = reader
        self._clock_s = clock_s
        self._going_on = going_on

    def read(self, places: Places, with_markers: bool) -> Iterator[list[Record]]:
        """All records of some stretches of partitions, each partition's in order. Raises BrokerError."""
        left = {place: end for place, (begin, end) in places.items() if begin < end}
        if not left:
            return
        self.reader.assign({place: places[place][0] for place in left})
        heard_s = self._clock_s()
        while left:
            self._going_on()
            found = []
            for record in self.reader.poll(_POLL_S):
                place = (record.topic, record.partition)
                end = left.get(place)
                if end is None or record.offset < places[place][0]:
                    continue  # it has come to its end already, or was fetched for another question
                if record.offset < end:
                    found.append(record)
                if record.offset >= end - 1:
                    del left[place]
            if found:
                heard_s = self._clock_s()
                yield found
            elif self._clock_s() - heard_s > (_MARKERS_S if with_markers else _SILENCE_S):
                if with_markers:
                    return
                raise BrokerError(
                    f"expected records up to these offsets: {left}, but nothing came for {_SILENCE_S:g} s: "
                    "check that the broker runs, and what it logs; then try again"
                )
