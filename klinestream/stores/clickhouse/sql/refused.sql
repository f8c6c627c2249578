CREATE MATERIALIZED VIEW IF NOT EXISTS $intake.${table}_refused$on_cluster TO $database.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM $intake.${table}_lines
WHERE fault != '';
