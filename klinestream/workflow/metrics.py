"""What a workflow's runner counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from klinestream.market.events import Order
from klinestream.market.workflows import Happened, State
from klinestream.workflow.state import Run
from klinestream.workflow.telling import Teller


class WorkflowMetrics:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"klinestream_workflow_{name}", meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"klinestream_workflow_{name}", meaning, labels, registry=self.registry)

        self.runs = counter("runs", "Runs that ended, by how", "workflow", "state")
        self.steps = counter("steps", "Steps, by what became of them; failed counts attempts", "workflow", "step", "happened")
        self.running = gauge("running", "1 while a run of the workflow is under way", "workflow")
        self.ended = gauge("ended_time_seconds", "When a run of the workflow ended last, since 1970", "workflow", "state")
        self.commands = counter("commands", "Commands that were obeyed or refused", "command", "fate")
        self.unreadable = counter("commands_unreadable", "Records of crypto_control meant for workflows that are no command")
        self.waiting = gauge("events_waiting", "Events that no broker has yet")
        self.left_out = gauge("events_left_out", "Events that were never told, since too many waited; since the start")
        self.reconnects = counter("reconnects", "Times that the connection to Kafka was made anew after trouble")
        for order in Order:
            for fate in ("obeyed", "refused"):
                self.commands.labels(order, fate)

    def watch(self, teller: Teller) -> None:
        """Hear what it tells, and see what it can't."""
        teller.also(self.hear)
        self.waiting.set_function(lambda: teller.waiting)
        self.left_out.set_function(lambda: teller.left_out)

    def hear(self, happened: Happened, run: Run, text: str, place: int | None) -> None:  # noqa: ARG002  # as a teller tells it
        """Something happened to a run."""
        if place is not None:
            self.steps.labels(run.workflow, run.steps[place].planned.name, happened.removeprefix("step_")).inc()
        if happened is Happened.RUN_ENDED:
            self.runs.labels(run.workflow, run.state).inc()
            self.ended.labels(run.workflow, run.state).set((run.ended_ms or 0) / 1000)
        self.running.labels(run.workflow).set(run.state is State.RUNNING)
