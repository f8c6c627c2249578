"""`make chaos`: the whole stack at 200 symbols, while a seeded script injects every fault and kills parts; then the proof.

seconds  0    8    16   24 …
faults   drop lose ban  silence …      each kind as often as any other, in an order that the seed decides
kills              broker        …     parts in turn, each with -9
"""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import plotly.graph_objects as go
import typer
from playwright.sync_api import sync_playwright
from rich.console import Console

from bench.ages import Ints, data_ages
from bench.report import RESULTS, Report
from klinestream.market.errors import ExchangeError
from klinestream.market.topics import WINDOWS
from klinestream.runtime.gap_ledger import read_ledger
from klinestream.runtime.sections import KafkaConfig
from klinestream.standin.client import StandinClient
from klinestream.standin.faults import Drop, Fault, Garbage, Lose, Refuse, Reorder, Repeat, Shutdown, Silence, Slow, Withhold
from klinestream.standin.garbage import Form
from tests.eventually import eventually
from tests.proof import prove
from tests.replay_proof import prove_replay
from tests.topics import Topic
from tests.whole_stack import TestStack

PARTS = ("producer", "task-manager-1", "repair", "broker", "standin", "job-manager", "server")
_PICTURE = RESULTS.parents[1] / "docs" / "images" / "chaos.png"
_PAUSE_S = (4.0, 9.0)
_KILL_EVERY_S = 45.0
_WELL_S = 240.0
_SAMPLE_MS = 1000


@dataclass(frozen=True, slots=True)
class Strike:
    """Something that was done to the stack."""

    time_ms: int
    what: str


def faults(chosen: random.Random) -> Iterator[Fault]:
    """Faults without end: all kinds in a new order, and again."""
    kinds: list[Callable[[], Fault]] = [
        lambda: Drop(streams=_some(chosen)),
        Drop,
        lambda: Silence(seconds=chosen.uniform(2, 9), streams=_some(chosen)),
        lambda: Shutdown(seconds=chosen.uniform(1, 5)),
        lambda: Lose(seconds=chosen.uniform(1, 4), streams=_some(chosen)),
        lambda: Repeat(seconds=chosen.uniform(2, 6), times=chosen.randint(2, 4)),
        lambda: Reorder(seconds=chosen.uniform(2, 6)),
        lambda: Garbage(seconds=chosen.uniform(1, 3), form=chosen.choice(list(Form)), streams=_some(chosen)),
        lambda: Refuse(seconds=chosen.uniform(1, 8), status=chosen.choice((418, 429, 503))),
        lambda: Withhold(seconds=chosen.uniform(2, 12)),
        lambda: Slow(seconds=chosen.uniform(3, 8), delay_s=chosen.uniform(0.5, 6)),
    ]
    while True:
        for make in chosen.sample(kinds, len(kinds)):
            yield make()


def _some(chosen: random.Random) -> str:
    """A pattern that about every sixth stream is like."""
    return f"[{''.join(chosen.sample('abcdefghijklmnopqrstuvwxyz', 4))}]*@*"


def run(stack: TestStack, seconds: float, seed: int, parts: Sequence[str], tell: Callable[[str], None] = lambda _: None) -> list[Strike]:
    """Strike for so long, then let all be well again. Kills begin with the first of `parts`."""
    chosen, strikes, to_come = random.Random(seed), list[Strike](), faults(random.Random(seed))  # no secret
    kills = iter(parts * (1 + int(seconds / _KILL_EVERY_S)))
    began_s = time.monotonic()
    kill_s = began_s + min(_KILL_EVERY_S, seconds) / 2
    with StandinClient(stack.config.exchange.rest_url) as standin:
        while time.monotonic() - began_s < seconds:
            time.sleep(chosen.uniform(*_PAUSE_S))
            if time.monotonic() >= kill_s:
                kill_s += _KILL_EVERY_S
                strikes.append(_kill(stack, next(kills)))
            else:
                strikes.append(_inject(standin, next(to_come)))
            tell(strikes[-1].what)
        eventually(lambda: _clear(standin), _WELL_S, "the exchange has no more faults")
    stack.wait_until_up(_WELL_S)
    return strikes


def _kill(stack: TestStack, part: str) -> Strike:
    if part in stack.supervisor.pids():
        stack.kill(part)
    return Strike(time.time_ns() // 1_000_000, f"kill {part}")


def _inject(standin: StandinClient, fault: Fault) -> Strike:
    try:
        standin.inject(fault)
    except ExchangeError:
        return Strike(time.time_ns() // 1_000_000, "exchange is away")
    return Strike(time.time_ns() // 1_000_000, fault.kind)


def _clear(standin: StandinClient) -> bool:
    try:
        standin.clear()
    except ExchangeError:
        return False
    return True


def main(
    minutes: Annotated[float, typer.Option(min=0.5, max=600, help="How long.")] = 10.0,
    symbols: Annotated[int, typer.Option(min=1, max=1400, help="How many symbols.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed does the same in the same order.")] = 1,
) -> None:
    """Strike, wait until all is well, prove every number, and write what it was like."""
    console, report = Console(), Report("chaos")
    with tempfile.TemporaryDirectory(prefix="klinestream-chaos-", ignore_cleanup_errors=True) as folder:
        stack = TestStack(Path(folder), str(symbols))
        try:
            stack.start()
            began_ms = time.time_ns() // 1_000_000
            strikes = run(stack, 60 * minutes, seed, PARTS, console.print)
            ended_ms = time.time_ns() // 1_000_000
            proved = prove(stack)
            _report(report, stack, strikes, (began_ms, ended_ms))
        finally:
            stack.stop()
        replayed = prove_replay(stack, 30)
    for what, count in asdict(proved).items():
        report.row(what.replace("_", " "), count=count)
    for topic, count in replayed.items():
        report.row(f"{topic}, equal to a replay of the archive", count=count)
    report.note(f"{minutes:g} minutes, {symbols} symbols, seed {seed}; everything on this one machine")
    report.note("age: for each symbol and second, now less the end of the newest window that was published by then")
    report.write()


def _report(report: Report, stack: TestStack, strikes: Sequence[Strike], span: tuple[int, int]) -> None:
    for what, count in sorted(Counter(strike.what for strike in strikes).items()):
        report.row(what, count=count)
    states = Counter(
        (gap.record.state.value, gap.record.source) for gap in read_ledger(KafkaConfig(bootstrap_servers=stack.bootstrap_servers)).gaps()
    )
    for (state, source), count in sorted(states.items()):
        report.row(f"gaps {state} from {source}", count=count)
    windows = Topic(stack.bootstrap_servers, WINDOWS.name)
    times, by_symbol = data_ages(windows.read(), "symbol", "window_end", began_ms=span[0], ended_ms=span[1], every_ms=_SAMPLE_MS)
    windows.close()
    ages = np.stack(list(by_symbol.values()), axis=1)
    for what, values in (("median", np.median(ages, axis=1)), ("worst", ages.max(axis=1))):
        p50, p99, most = np.percentile(values, [50, 99, 100])
        report.row(f"data age of the {what} symbol, s", p50=float(p50) / 1000, p99=float(p99) / 1000, max=float(most) / 1000)
    draw(times, ages, strikes)


def draw(times: Ints, ages: Ints, strikes: Sequence[Strike]) -> None:
    """A picture of data age over time, and of what was done when."""
    minutes = (times - times[0]) / 60_000
    figure = go.Figure()
    figure.add_scatter(x=minutes, y=ages.max(axis=1) / 1000, name="worst symbol", line={"color": "#f0a04b", "width": 1})
    figure.add_scatter(x=minutes, y=np.median(ages, axis=1) / 1000, name="median symbol", line={"color": "#4aa3ff", "width": 1.5})
    for strike in strikes:
        killed = strike.what.startswith("kill")
        at = (strike.time_ms - int(times[0])) / 60_000
        figure.add_vline(x=at, line={"color": "#e5484d" if killed else "#5b6472", "width": 1.5 if killed else 0.5, "dash": "dot"})
        if killed:
            figure.add_annotation(x=at, y=1, yref="paper", text=strike.what, textangle=-90, showarrow=False, xshift=-7, yanchor="top")
    figure.update_layout(
        template="plotly_dark",
        title="Data age while parts are killed (red) and faults injected (grey)",
        xaxis_title="minutes",
        yaxis_title="data age, s",
        font={"size": 12},
        legend={"orientation": "h", "y": 1.08, "x": 1, "xanchor": "right"},
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 480})
        page.set_content(figure.to_html(include_plotlyjs=True, config={"displayModeBar": False}))
        page.add_style_tag(content="body { margin: 0; background: #111 }")
        page.wait_for_selector(".main-svg")
        page.screenshot(path=str(_PICTURE))
        browser.close()


if __name__ == "__main__":
    typer.run(main)
