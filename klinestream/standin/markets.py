"""Which market the configuration asks for."""

from pathlib import Path

from klinestream.market.events import SECOND_MS
from klinestream.runtime.sections import StandinConfig
from klinestream.standin.market import Market
from klinestream.standin.recorded import RecordedMarket
from klinestream.standin.seeded.market import SeededMarket


def open_market(config: StandinConfig, start_ms: int) -> Market:
    """The recorded market where frames are given, else the seeded one. `start_ms`: the wall clock's time now.

    Raises ConfigError where the recorded frames can't be used.
    """
    if config.frames:
        begin_ms = start_ms + round(config.lead_s * SECOND_MS)
        return RecordedMarket(
            Path(config.frames), begin_ms, speed=config.speed, retime=config.retime, ago_ms=round(config.ago_s * SECOND_MS)
        )
    return SeededMarket(config.seed, config.symbols)
