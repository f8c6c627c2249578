"""Results computed again from topics: repairs of what klines that came late have touched."""
