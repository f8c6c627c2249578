"""Closed candles with their indicators and signals, as they come from the topics."""
