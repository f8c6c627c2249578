"""Archived klines into features for models: windows, candles and indicators, labels and splits."""
