"""One batch is written while the next one is gathered, and no third one is there."""

import threading

import pytest

from klinestream.market.errors import StoreError
from klinestream.stores.postgres.overlapping import overlapped

WITHIN_S = 20


class Batches:
    """Numbers from 1 on to `count`: gathered, stored, and what was there at once."""

    def __init__(self, count: int, refused: int = 0) -> None:
        self.ending = threading.Event()
        self.gathered, self.stored, self.held_most, self.between_while_storing = 0, list[int](), 0, False
        self._count, self._refused = count, refused
        self._is_storing = False

    def gather(self) -> int | None:
        if self.gathered == self._count:
            self.ending.set()
            return None
        self.gathered += 1
        self.held_most = max(self.held_most, self.gathered - len(self.stored))
        return self.gathered

    def store(self, number: int) -> None:
        self._is_storing = True
        if number == self._refused:
            raise StoreError("refused")
        self.stored.append(number)
        self._is_storing = False

    def between(self) -> None:
        self.between_while_storing |= self._is_storing

    def run(self) -> None:
        overlapped(self.gather, self.store, self.between, self.ending)


def test_all_is_stored_in_order() -> None:
    """Up to the last one that was gathered before the end; never are there more than two, and what runs between finds none being stored."""
    batches = Batches(50)
    batches.run()
    assert batches.stored == list(range(1, 51))
    assert batches.held_most <= 2
    assert not batches.between_while_storing


def test_the_next_one_is_gathered_meanwhile() -> None:
    """The first one's writing waits here for the second one to be gathered; and none is gathered after that."""
    batches = Batches(5)
    second, found = threading.Event(), list[int]()

    def gather() -> int | None:
        number = batches.gather()
        if number == 2:
            second.set()
        return number

    def store(number: int) -> None:
        assert second.wait(WITHIN_S)
        found.append(batches.gathered - len(batches.stored))
        batches.store(number)

    overlapped(gather, store, batches.between, batches.ending)
    assert batches.stored == [1, 2, 3, 4, 5]
    assert max(found) == 2


def test_nothing_is_stored_after_a_failure() -> None:
    """What a batch is refused for is raised; the one gathered meanwhile is not stored, or its position would lie past what is lost."""
    batches = Batches(10, refused=4)
    with pytest.raises(StoreError, match="refused"):
        batches.run()
    assert batches.stored == [1, 2, 3]
    assert batches.gathered == 5


def test_what_is_gathered_is_stored_when_the_end_comes() -> None:
    """An end that is asked for while a batch is gathered loses nothing of it."""
    batches = Batches(3)

    def gather() -> int | None:
        number = batches.gather()
        if number == 2:
            batches.ending.set()
        return number

    overlapped(gather, batches.store, batches.between, batches.ending)
    assert batches.stored == [1, 2]
