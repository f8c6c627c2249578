"""What happens to runs, told in `crypto_pipeline_events` by a thread of its own: a broker that is away holds no step up.

runner ─► waiting, at most so many ─► crypto_pipeline_events
                                 ✗    the state's files have the truth, and each event tells where all steps are
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable

import structlog

from klinestream.market.codec import encode_event
from klinestream.market.errors import BrokerError
from klinestream.market.events import WORKFLOW, PipelineEvent
from klinestream.market.topics import PIPELINE_EVENTS, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.market.workflows import Happened, detail_of
from klinestream.runtime.kafka import Publisher, Record, open_publisher
from klinestream.runtime.sections import KafkaConfig
from klinestream.workflow.state import Run

log = structlog.get_logger()

CLIENT_ID = "klinestream-workflow"
WAITING_MOST = 10_000
"""Events; of more the oldest are left out, which is counted."""
_CONNECT_S = 3.0
_FLUSH_S = 10.0
_CLOSE_S = 1.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.25, 5.0


class Teller:
    """Publishes events in order, each in a millisecond of its own: two of one time would be one."""

    def __init__(self, config: KafkaConfig, now_ms: Callable[[], int]) -> None:
        """Connects when there is something to tell."""
        self._config = config.model_copy(update={"connect_timeout_s": min(_CONNECT_S, config.connect_timeout_s)})
        self._now_ms = now_ms
        self._waiting: deque[Record] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._newest_ms = 0
        self._heard: list[Callable[[Happened, Run, str, int | None], None]] = []
        self.left_out = 0
        self.fault = ""
        self._thread = threading.Thread(target=self._work, name="telling", daemon=True)
        self._thread.start()

    def also(self, hear: Callable[[Happened, Run, str, int | None], None]) -> None:
        """Tell somebody in this process too, at once."""
        self._heard.append(hear)

    def __call__(self, happened: Happened, run: Run, text: str, place: int | None = None, **fields: object) -> None:
        """Tell something of a run; see `runner.Tell`."""
        step = {} if place is None else {"step": run.steps[place].planned.name, "attempt": run.steps[place].attempts}
        self.answer(run.workflow, happened, text, {**of_run(run), **step, **fields})
        for hear in self._heard:
            hear(happened, run, text, place)

    def answer(self, workflow: str, happened: Happened, text: str, fields: dict[str, object]) -> None:
        """Tell something that is no news of a run."""
        with self._changed:
            self._newest_ms = max(self._now_ms(), self._newest_ms + 1)
            event = PipelineEvent(f"{WORKFLOW}{workflow}", happened, self._newest_ms, detail_of(text, fields))
            headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % self._newest_ms))
            record = Record(PIPELINE_EVENTS.name, event.component.encode(), encode_event(event), self._newest_ms, headers)
            self._waiting.append(record)
            if len(self._waiting) > WAITING_MOST:
                self._waiting.popleft()
                self.left_out += 1
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Events that no broker has yet."""
        return len(self._waiting)

    def close(self, timeout_s: float) -> None:
        """Wait until all is told, but not for a broker that is away."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._waiting:
            log.error("events were not told", count=len(self._waiting), reason=self.fault or "no broker took them in time")

    def _work(self) -> None:
        wait_s, publisher = _BACKOFF_FIRST_S, None
        while self._is_due():
            try:
                publisher = publisher or open_publisher(self._config, CLIENT_ID)
                self._publish(publisher)
                self.fault, wait_s = "", _BACKOFF_FIRST_S
            except BrokerError as error:
                if not self.fault:
                    log.info("events can't be told, trying again", reason=str(error))
                self.fault = str(error)
                _close(publisher)
                publisher = None
                if self._closing:
                    break
                time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret
                wait_s = min(_BACKOFF_MOST_S, 2 * wait_s)
        _close(publisher)

    def _is_due(self) -> bool:
        """Wait for something to tell; False once all is told and no more comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return bool(self._waiting)

    def _publish(self, publisher: Publisher) -> None:
        batch = list(self._waiting)
        for record in batch:
            publisher.publish(record)
        publisher.flush(_FLUSH_S)
        told = set(map(id, batch))
        with self._changed:
            while self._waiting and id(self._waiting[0]) in told:
                self._waiting.popleft()


def of_run(run: Run) -> dict[str, object]:
    """What each event tells of its run."""
    return {"run": run.id, "state": run.state, "steps": ",".join(f"{step.planned.name}:{step.state}" for step in run.steps)}


def _close(publisher: Publisher | None) -> None:
    if publisher is not None:
        try:
            publisher.close(_CLOSE_S)
        except BrokerError as error:
            log.warning("kafka did not take everything", reason=str(error))
