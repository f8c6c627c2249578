-- What became of each gap: the furthest state that any producer reached counts, since whoever filled a gap, it is filled.
SELECT
    symbol,
    gap,
    from_time,
    to_time,
    dateDiff('second', from_time, to_time) AS seconds,
    argMax(state, far) AS state,
    max(klines) AS obtained,
    arraySort(groupUniqArray(producer)) AS producers,
    min(time) AS found_time,
    argMax(time, (far, time)) AS settled_time
FROM
(
    SELECT *, indexOf(['detected', 'deferred', 'unfillable', 'refilled', 'repaired'], state) AS far
    FROM gaps_final
    WHERE from_time >= {from:DateTime64(3, 'UTC')} AND from_time < {until:DateTime64(3, 'UTC')}
)
GROUP BY symbol, gap, from_time, to_time
ORDER BY from_time DESC, gap;
