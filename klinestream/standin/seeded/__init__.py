"""The seeded market: made of integers and hashes, the same on every machine. `market` draws the construction."""
