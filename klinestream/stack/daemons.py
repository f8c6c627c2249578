"""Work in daemon threads: unlike those of a pool they hold up neither an error, nor a signal, nor the end of the program."""

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")


def each(work: Callable[[Item], None], items: Sequence[Item], at_once: int) -> Iterator[None]:
    """Do `work` for all items, `at_once` of them at a time; yields as each is done. Raises what it raised first, and begins no more.

    Whoever leaves the iteration leaves behind what is being worked on: it must be of a kind that may be cut off anywhere.
    """
    waiting: SimpleQueue[Item] = SimpleQueue()
    done: SimpleQueue[Exception | None] = SimpleQueue()
    for item in items:
        waiting.put(item)
    for _ in range(min(at_once, len(items))):
        threading.Thread(target=_serve, args=(work, waiting, done), daemon=True).start()
    try:
        for _ in items:
            if (failed := done.get()) is not None:
                raise failed
            yield
    finally:
        _empty(waiting)


def _serve(work: Callable[[Item], None], waiting: "SimpleQueue[Item]", done: "SimpleQueue[Exception | None]") -> None:
    while True:
        try:
            item = waiting.get_nowait()
        except Empty:
            return
        try:
            work(item)
        except Exception as error:
            done.put(error)
        else:
            done.put(None)


def _empty(waiting: "SimpleQueue[Item]") -> None:
    while True:
        try:
            waiting.get_nowait()
        except Empty:
            return
