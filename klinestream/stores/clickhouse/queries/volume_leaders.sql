-- The symbols in which most was traded over a span, in quote units (so among symbols with the same quote), their share of all, and
-- how much of it takers bought.
SELECT
    symbol,
    sum(quote_volume) AS traded,
    toFloat64(traded) / toFloat64(sum(traded) OVER ()) AS share,
    toFloat64(sum(taker_quote_volume)) / nullIf(toFloat64(traded), 0) AS bought_share,
    sum(trades) AS number_of_trades
FROM candles_final
WHERE interval = '1m' AND open_time >= {from:DateTime64(3, 'UTC')} AND open_time < {until:DateTime64(3, 'UTC')}
    AND endsWith(symbol, {quote:String})
GROUP BY symbol
ORDER BY traded DESC, symbol
LIMIT {limit:UInt32};
