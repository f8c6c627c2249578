"""The status of the stack for the person who looks on: a live table in a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console
from rich.live import Live
from rich.table import Table

from klinestream.stack import plans
from klinestream.stack.meter import Flow
from klinestream.stack.part import State
from klinestream.stack.supervisor import Row, Supervisor

_TABLE_EVERY_S = 0.5
_LOOK_EVERY_S = 0.25
_LINE_EVERY_S = 15.0

_COLOUR = {
    State.WAITING: "dim",
    State.STARTING: "yellow",
    State.UP: "green",
    State.BACKING_OFF: "red",
    State.DONE: "dim",
    State.STOPPED: "dim",
}


class Display:
    """What `klinestream up` shows. Where that can't be written nothing ends by it: who closes the terminal says so by SIGHUP."""

    def __init__(self, with_table: bool, console: Console | None = None) -> None:
        """A table if `with_table` and the output is a terminal, else lines."""
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False) if with_table and self._console.is_terminal else None
        self._next = 0.0
        self._next_look = 0.0
        self._states: tuple[State, ...] = ()
        self._address: str | None = None
        self._started = time.monotonic()

    def __enter__(self) -> "Display":
        """Begin to show."""
        if self._live is not None:
            with suppress(OSError):
                self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """The last table stays on the screen."""
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()

    def say(self, text: str) -> None:
        """One message, above the table."""
        with suppress(OSError):
            self._console.print(text, markup=False, soft_wrap=True)

    def update(self, stack: Supervisor) -> None:
        """Show where the stack stands, not more often than a person can read."""
        now = time.monotonic()
        rows = stack.rows()
        states = tuple(row.state for row in rows)
        self._look_for_data(stack, states, now)
        if now < self._next and (self._live is not None or states == self._states):
            return
        self._next = now + (_LINE_EVERY_S if self._live is None else _TABLE_EVERY_S)
        self._states = states
        if self._live is None:
            self.say(line(rows))
        else:
            with suppress(OSError):
                self._live.update(table(rows, self._address), refresh=True)

    def _look_for_data(self, stack: Supervisor, states: Sequence[State], now: float) -> None:
        """Say where the chart is once it has data."""
        if self._address is not None or now < self._next_look or not self._everything_up(states):
            return
        self._next_look = now + _LOOK_EVERY_S
        if stack.chart_has_data():
            self._address = f"{plans.server_url(stack.config)}/chart"
            self.say(f"the chart has data: {self._address} (after {now - self._started:.0f} s)")

    def _everything_up(self, states: Sequence[State]) -> bool:
        return all(state is State.UP for state in states)


def table(rows: Sequence[Row], address: str | None) -> Table:
    """The table; `address` of the chart once it has data."""
    shown = Table("part", "state", "pid", "port", "restarts", "records/s", "data age", title="klinestream", caption=_caption(address))
    for row in rows:
        colour = _COLOUR[row.state]
        shown.add_row(
            row.name, f"[{colour}]{row.state.value}[/]", _text(row.pid), _text(row.port), str(row.restarts), _rate(row.flow), _age(row.flow)
        )
    return shown


def line(rows: Sequence[Row]) -> str:
    """The same in one line."""
    return ", ".join(f"{row.name} {row.state.value}{_flow(row.flow)}" for row in rows)


def _flow(flow: Flow | None) -> str:
    return "" if flow is None or flow.age_s is None else f" ({_rate(flow)}/s, {_age(flow)} old)"


def _caption(address: str | None) -> str:
    return f"chart: {address} · Ctrl-C ends all" if address else "the chart's address comes when it has data · Ctrl-C ends all"


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _rate(flow: Flow | None) -> str:
    return "" if flow is None else f"{flow.rate:,.0f}"


def _age(flow: Flow | None) -> str:
    return "" if flow is None or flow.age_s is None else f"{flow.age_s:.1f} s"
