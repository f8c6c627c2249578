"""Records as lines of text, many at once: what a job hands to its sink.

A line is key, record timestamp and value, parted by tabs: JSON holds no bare tab or newline, and neither does a symbol.
"""

import orjson

from klinestream.market.windows import WindowRows


def window_lines(rows: WindowRows) -> list[str]:
    """Lines of `crypto_data_aggregated`, `len(rows.ends)` for each row. Field for field as `codec.encode_event`."""
    columns = (rows.close, rows.average_price, rows.low, rows.high, rows.volume, rows.points, rows.rsi, rows.rsi_ready, rows.since)
    lines = []
    for symbol, opened, close, average, low, high, volume, points, rsi, ready, since in zip(
        rows.symbols, rows.open_times.tolist(), *(column.tolist() for column in columns), strict=True
    ):
        # Windows that hold the same klines differ in their times alone, so the rest is written once.
        rest = orjson.dumps(
            {
                "close": close,
                "average_price": average,
                "low": low,
                "high": high,
                "volume": volume,
                "points": points,
                "rsi": rsi,  # orjson writes nan as null
                "rsi_ready": ready,
                "since": since,
                "revision": 0,
            }
        ).decode()[1:]
        for end in rows.ends:
            at = opened + end
            lines.append(f'{symbol}\t{at - 1}\t{{"symbol":"{symbol}","window_start":{at - rows.size_ms},"window_end":{at},{rest}')
    return lines


def record_line(key: str, time_ms: int, value: bytes) -> str:
    """One record as a line; an empty key stands for none."""
    return f"{key}\t{time_ms}\t{value.decode()}"
