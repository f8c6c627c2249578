-- Prices of a symbol at any multiple of 3 s, from its windows: those that end at a multiple of their own length lie edge to edge, so
-- that each second is in one of them. The first price is the close before; null where that isn't known.
SELECT
    toStartOfInterval(start_time, INTERVAL {seconds:UInt32} SECOND) AS time,
    argMin(tuple(before), start_time).1 AS open, -- in a tuple, since argMin passes over nulls
    max(w.high) AS high,
    min(w.low) AS low,
    argMax(w.close, start_time) AS close,
    sum(w.volume) AS volume,
    sum(w.points) = {seconds:UInt32} AS whole
FROM
(
    SELECT
        *,
        if(lagInFrame(toNullable(end_time)) OVER line = start_time, lagInFrame(toNullable(close)) OVER line, NULL) AS before
    FROM windows_final
    WHERE symbol = {symbol:String} AND end_time > {from:DateTime64(3, 'UTC')} AND end_time <= {until:DateTime64(3, 'UTC')}
        AND toUnixTimestamp64Milli(end_time) % 3000 = 0
    WINDOW line AS (ORDER BY end_time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
) AS w
GROUP BY time
ORDER BY time;
