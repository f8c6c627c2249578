"""A stand-in for Binance Spot on localhost: its websocket and REST over a seeded or a recorded market."""
