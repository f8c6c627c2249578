-- What people ask for most, over the tables of 0001.

-- Of each gap the record that counts, by the precedence of klinestream/market/ledger.py: the furthest state that any producer
-- reached; of an open one the newest word, of a settled one the first.
CREATE VIEW gap_states AS
SELECT DISTINCT ON (gap) *, state IN ('detected', 'deferred') AS open, state IN ('refilled', 'repaired') AS filled
FROM gaps
ORDER BY
    gap,
    array_position(ARRAY['detected', 'deferred', 'unfillable', 'refilled', 'repaired'], state::text) DESC,
    CASE WHEN state IN ('detected', 'deferred') THEN time END DESC,
    time,
    klines DESC,
    coalesce(trades, -1) DESC,
    proved DESC,
    producer DESC,
    source DESC,
    reason DESC;

-- The same of gaps in ids, by klinestream/market/id_ledger.py.
CREATE VIEW id_gap_states AS
SELECT DISTINCT ON (gap) *, state IN ('detected', 'deferred') AS open,
    state IN ('resynchronised', 'refilled', 'repaired') AS filled
FROM id_gaps
ORDER BY
    gap,
    array_position(ARRAY['detected', 'deferred', 'unfillable', 'resynchronised', 'refilled', 'repaired'], state::text) DESC,
    CASE WHEN state IN ('detected', 'deferred') THEN time END DESC,
    time,
    obtained DESC,
    producer DESC,
    coalesce(after_time, 'epoch'::timestamptz - interval '1 millisecond') DESC,
    before_time DESC,
    reason DESC;

-- Each candle with its indicators, null where there are none (yet). The usual ones are columns; all of them are in readings.
CREATE VIEW candle_indicators AS
SELECT
    c.symbol, c.interval, c.open_time, c.close_time, c.open, c.high, c.low, c.close,
    c.base_volume, c.quote_volume, c.trades, c.complete, c.origin, c.revision,
    (i.readings ->> 'sma_20')::double precision AS sma_20,
    (i.readings ->> 'sma_50')::double precision AS sma_50,
    (i.readings ->> 'ema_12')::double precision AS ema_12,
    (i.readings ->> 'ema_26')::double precision AS ema_26,
    (i.readings ->> 'rsi_14')::double precision AS rsi_14,
    (i.readings ->> 'macd_12_26_9')::double precision AS macd,
    (i.readings ->> 'macd_signal_12_26_9')::double precision AS macd_signal,
    (i.readings ->> 'macd_histogram_12_26_9')::double precision AS macd_histogram,
    (i.readings ->> 'bollinger_upper_20_2')::double precision AS bollinger_upper,
    (i.readings ->> 'bollinger_middle_20_2')::double precision AS bollinger_middle,
    (i.readings ->> 'bollinger_lower_20_2')::double precision AS bollinger_lower,
    (i.readings ->> 'atr_14')::double precision AS atr_14,
    i.readings, i.unready, i.since_time, i.revision AS indicators_revision
FROM candles AS c
LEFT JOIN indicators AS i USING (symbol, interval, open_time);

-- Signals that no repair has withdrawn.
CREATE VIEW standing_signals AS
SELECT * FROM signals WHERE state = 'fired';
