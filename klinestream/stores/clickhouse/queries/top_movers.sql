-- The symbols whose price moved furthest over a span, up or down, by their 1m candles.
SELECT
    symbol,
    argMin(open, open_time) AS first,
    argMax(close, open_time) AS last,
    (toFloat64(last) / toFloat64(first) - 1) * 100 AS change_percent,
    sum(quote_volume) AS traded
FROM candles_final
WHERE interval = '1m' AND open_time >= {from:DateTime64(3, 'UTC')} AND open_time < {until:DateTime64(3, 'UTC')}
GROUP BY symbol
ORDER BY abs(change_percent) DESC, symbol
LIMIT {limit:UInt32};
