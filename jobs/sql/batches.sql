-- What a partition brought within a few milliseconds, as one row. Processing time is safe here: how lines are split into
-- batches changes no result, and the offsets prove that none is lost or out of order.
SELECT
    shard,
    ARRAY_AGG(line) AS lines,
    ARRAY_AGG(record_offset) AS offsets,
    ARRAY_AGG(EXTRACT(EPOCH FROM record_time) * 1000 + EXTRACT(MILLISECOND FROM record_time)) AS times
FROM TABLE(TUMBLE(TABLE $table, DESCRIPTOR(arrival), INTERVAL '$batch_s' SECOND(2, 3)))
GROUP BY shard, window_start, window_end
