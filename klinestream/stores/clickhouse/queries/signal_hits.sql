-- How often the price went a signal's way: of each rule, interval and side the signals that stand, those whose candle so many candles
-- later is known, in how many of them the close had moved as they said, and the mean move their way in percent.
WITH
    transform(s.interval, ['1m', '5m', '15m', '30m', '1h', '4h', '1d'], [1, 5, 15, 30, 60, 240, 1440], 0) AS minutes,
    if(s.side = 'buy', 1, -1) * (toFloat64(c.close) / s.price - 1) * 100 AS gain_percent
SELECT
    s.rule AS rule,
    s.interval AS interval,
    s.side AS side,
    count() AS signals,
    countIf(c.found) AS known,
    countIf(c.found AND gain_percent > 0) AS hits,
    avgIf(gain_percent, c.found) AS mean_gain_percent
FROM
(
    SELECT *, open_time + toIntervalMinute(minutes * {candles:UInt32}) AS later
    FROM signals_final AS s
    WHERE state = 'fired' AND open_time >= {from:DateTime64(3, 'UTC')} AND open_time < {until:DateTime64(3, 'UTC')}
) AS s
LEFT JOIN
(
    SELECT symbol, interval, open_time, close, true AS found
    FROM candles_final
    WHERE open_time >= {from:DateTime64(3, 'UTC')}
) AS c ON s.symbol = c.symbol AND s.interval = c.interval AND s.later = c.open_time
GROUP BY rule, interval, side
ORDER BY rule, interval, side;
