-- Candles of a symbol at any number of minutes, from its 1m candles. `whole`: no minute is missing, and none had a hole.
SELECT
    toStartOfInterval(open_time, INTERVAL {minutes:UInt32} MINUTE) AS time,
    argMin(c.open, c.open_time) AS open,
    max(c.high) AS high,
    min(c.low) AS low,
    argMax(c.close, c.open_time) AS close,
    sum(c.base_volume) AS base_volume,
    sum(c.quote_volume) AS quote_volume,
    sum(c.trades) AS trades,
    count() = {minutes:UInt32} AND min(c.complete) AS whole
FROM candles_final AS c
WHERE symbol = {symbol:String} AND interval = '1m' AND open_time >= {from:DateTime64(3, 'UTC')} AND open_time < {until:DateTime64(3, 'UTC')}
GROUP BY time
ORDER BY time;
