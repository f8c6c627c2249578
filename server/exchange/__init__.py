"""The exchange's own REST interface, over our candles."""
