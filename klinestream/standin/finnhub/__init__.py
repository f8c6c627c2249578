"""A stand-in for Finnhub's websocket beside Binance's, over the same market and on the same port."""
