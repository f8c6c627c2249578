"""A model's forecasts over feature rows: what it would have said live, to the last bit. Pure."""

import numpy as np
import polars as pl

from klinestream.models.panel import panel_of
from klinestream.models.storage import Stored


def forecasts(stored: Stored, rows: pl.DataFrame) -> pl.DataFrame:
    """symbol, open_time_ms, prediction and probability, by symbol and time, where the model says something. Raises ConfigError."""
    panel = panel_of(rows, stored.header.task, stored.header.symbols)
    said = stored.model.predict(panel.inputs)
    moments, symbols = np.nonzero(np.isfinite(said.returns))
    return pl.DataFrame(
        {
            "symbol": np.array(panel.symbols)[symbols],
            "open_time_ms": panel.opened[moments],
            "prediction": said.returns[moments, symbols],
            "probability": said.probabilities[moments, symbols],
        }
    ).sort("symbol", "open_time_ms")
