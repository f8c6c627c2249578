"""What was found to be wrong, by whoever looked: a bounded memory, newest first. Pure."""

import re
from collections.abc import Iterable
from dataclasses import replace

from server.pipeline.model import Fault, Part, State

HELD_MOST = 50
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")


class FaultLog:
    """Remembers faults of parts: since when, and whether they are over. The oldest make room.

    A text in which only the numbers change is the same fault, which goes on.
    """

    def __init__(self, most: int = HELD_MOST) -> None:
        """Nothing was wrong yet."""
        self._most = most
        self._held: list[Fault] = []

    def note(self, parts: Iterable[Part], now_ms: int) -> None:
        """Take what is wrong now; what was wrong and isn't any more is over."""
        wrong = {(part.name, _NUMBERS.sub("#", text)): text for part in parts for text in complaints(part)}
        held = []
        for fault in self._held:
            text = None if fault.over else wrong.pop((fault.part, _NUMBERS.sub("#", fault.text)), None)
            held.append(replace(fault, over=True) if text is None else replace(fault, text=text))
        news = [Fault(part, now_ms, text) for (part, _), text in wrong.items()]
        self._held = [*held, *news][-self._most :]

    def newest(self, most: int, others: Iterable[Fault] = ()) -> list[Fault]:
        """The newest faults, with those that others tell of; what goes on comes first."""
        return sorted([*self._held, *others], key=lambda fault: (fault.over, -fault.time))[:most]


def complaints(part: Part) -> tuple[str, ...]:
    """What is wrong with a part."""
    if part.state in (State.AWAY, State.RESTARTING):
        return (f"{part.state}: {part.reason}",)
    return part.faults
