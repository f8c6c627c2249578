"""Indicators over arrays of symbols: one file each, one protocol for all."""
