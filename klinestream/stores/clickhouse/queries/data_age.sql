-- How old the newest row of each table is. It asks the parts' own notes and reads no row.
SELECT name, newest, dateDiff('millisecond', newest, now64(3, 'UTC')) / 1000 AS age_s
FROM
(
    SELECT 'windows' AS name, max(end_time) AS newest FROM windows
    UNION ALL SELECT 'trade_windows', max(end_time) FROM trade_windows
    UNION ALL SELECT 'candles', max(open_time) FROM candles
    UNION ALL SELECT 'indicators', max(open_time) FROM indicators
    UNION ALL SELECT 'signals', max(open_time) FROM signals
    UNION ALL SELECT 'aggregates', max(open_time) FROM aggregates
    UNION ALL SELECT 'predictions', max(open_time) FROM predictions
)
WHERE newest > toDateTime64(0, 3, 'UTC')
ORDER BY name;
