"""What flows: records a second and the age of the newest, by topic, looked up on the broker once a second."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from klinestream.market.errors import BrokerError
from klinestream.market.topics import Topic
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.topic_admin import Position, TopicAdmin

_EVERY_S = 1.0
# Rates are over this many looks: klines come in one burst a second.
_LOOKS = 5


@dataclass(frozen=True, slots=True)
class Flow:
    """Of one topic: records a second over the last few, and seconds since the newest one's time (None while it is empty)."""

    rate: float
    age_s: float | None


class Meter:
    """Looks in a thread of its own, so that a broker that is away holds up nobody. Empty while it is away."""

    def __init__(self, config: KafkaConfig, topics: Sequence[Topic]) -> None:
        """Does not connect yet."""
        self._config = config
        self._topics = tuple(topics)
        self._flows: Mapping[str, Flow] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)

    def start(self) -> None:
        """Begin to look, if it has not begun."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Look no more. Does not wait: a look at a broker that has gone takes its time, and holds nothing."""
        self._stopping.set()

    def flows(self) -> Mapping[str, Flow]:
        """The last look, by topic."""
        return self._flows

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with TopicAdmin(self._config) as admin:
                    self._look(admin)
            except BrokerError:
                self._flows = {}
                self._stopping.wait(_EVERY_S)

    def _look(self, admin: TopicAdmin) -> None:
        looks: list[tuple[float, Mapping[str, Position]]] = []
        while not self._stopping.wait(_EVERY_S):
            looks = [*looks[-_LOOKS:], (time.monotonic(), admin.positions(self._topics))]
            self._flows = _flows(looks, time.time() * 1000)


def _flows(looks: Sequence[tuple[float, Mapping[str, Position]]], now_ms: float) -> Mapping[str, Flow]:
    (first_s, first), (last_s, last) = looks[0], looks[-1]
    flows = {}
    for name, position in last.items():
        passed_s = last_s - first_s
        more = position.records - first[name].records if name in first else 0
        age_s = (now_ms - position.newest_ms) / 1000 if position.newest_ms >= 0 else None
        flows[name] = Flow(more / passed_s if passed_s else 0.0, age_s)
    return flows
