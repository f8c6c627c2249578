"""The candles job at 1,400 symbols and seven intervals: live, its state, its engine next to TA-Lib, and next to a naive job.

`python -m bench candles` measures all of it; `python -m bench.candles [PART…]` some parts, or another scale, into
bench/results/candles-<parts>.json.
"""

import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench import candles_engine, candles_live, candles_naive, candles_state
from bench.candles_scale import Scale
from bench.report import Report


class Part(StrEnum):
    """What can be measured of the candles job; the first ones need no other process."""

    STATE = "state"
    ENGINE = "engine"
    NAIVE = "naive"
    LIVE = "live"


_PARTS: dict[Part, Callable[[Report, Path, Scale], None]] = {
    Part.STATE: candles_state.measure,
    Part.ENGINE: candles_engine.measure,
    Part.NAIVE: candles_naive.measure,
    Part.LIVE: candles_live.measure,
}


def measure(report: Report, folder: Path, scale: Scale | None = None, parts: list[Part] | None = None) -> None:
    """One part after the other."""
    for part in parts or list(Part):
        _PARTS[part](report, folder / part, scale or Scale())


def main(
    parts: Annotated[list[Part] | None, typer.Argument(help="What to measure; everything by default.")] = None,
    symbols: Annotated[int, typer.Option(min=4, max=1400, help="How many symbols.")] = Scale.symbols,
    minutes: Annotated[int, typer.Option(min=1, max=120, help="Ends of a minute that `live` waits for.")] = Scale.minutes,
    candles: Annotated[int, typer.Option(min=10, max=1000, help="Candles a symbol that `naive` computes.")] = Scale.candles,
    with_history: Annotated[bool, typer.Option(help="Measure `live` once more with history.")] = True,
) -> None:
    """Measure parts of it, or at another scale."""
    name = "-".join(["candles", *(parts or [])])
    report = Report(name)
    scale = Scale(symbols, minutes, candles, with_history)
    with tempfile.TemporaryDirectory(prefix="klinestream-bench-", ignore_cleanup_errors=True) as folder:
        measure(report, Path(folder), scale, parts)
    report.write()


if __name__ == "__main__":
    typer.run(main)
