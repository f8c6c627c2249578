-- What could not be read, by topic and reason: how often, when last, and where to find one of them.
SELECT
    topic,
    reason,
    count() AS lines,
    max(found_time) AS newest,
    argMax((partition, offset), found_time) AS example,
    argMax(substring(raw, 1, 200), found_time) AS begins
FROM dead_lines FINAL
WHERE found_time >= {from:DateTime64(3, 'UTC')}
GROUP BY topic, reason
ORDER BY lines DESC, topic, reason;
