-- A heat map's cells: symbol by time, the newest converged RSI (or another reading) in each. What has not converged leaves its cell out.
SELECT
    symbol,
    toStartOfInterval(open_time, INTERVAL {minutes:UInt32} MINUTE) AS time,
    argMax(assumeNotNull(readings[{reading:String}]), open_time) AS value
FROM indicators_final
WHERE interval = {interval:String} AND open_time >= {from:DateTime64(3, 'UTC')} AND open_time < {until:DateTime64(3, 'UTC')}
    AND isNotNull(readings[{reading:String}]) AND NOT has(unready, {reading:String})
GROUP BY symbol, time
ORDER BY symbol, time;
