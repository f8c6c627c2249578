"""Models: from feature rows to forecasts, the same offline and live, and a card that says how far they can be trusted."""
