"""What the candles' engine computes, as the configuration says it."""

from klinestream.market.candle_engine import CandleSettings
from klinestream.market.indicators.catalogue import IndicatorSettings
from klinestream.market.signals import SignalSettings
from klinestream.runtime.config import Config


def candle_settings(config: Config) -> CandleSettings:
    """Raises ConfigError where an indicator or a rule can't be."""
    periods = config.indicators
    indicators = IndicatorSettings(
        sma=periods.sma,
        ema=periods.ema,
        rsi=periods.rsi,
        macd=periods.macd,
        bollinger=periods.bollinger,
        atr=periods.atr,
        vwap=periods.vwap,
        stochastic=periods.stochastic,
        volatility=periods.volatility,
    )
    rules = config.signals
    signals = SignalSettings(
        rules=rules.rules,
        rsi_low=rules.rsi_low,
        rsi_high=rules.rsi_high,
        hysteresis=rules.hysteresis,
        rsi_period=rules.rsi_period,
        macd=rules.macd,
        ema=rules.ema,
    )
    return CandleSettings(config.candles.intervals, config.candles.provisional, config.candles.history, indicators, signals)
