"""From the exchange's websocket into the topic `crypto_kline_data`."""
