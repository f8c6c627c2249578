CREATE MATERIALIZED VIEW IF NOT EXISTS $intake.${table}_taken$on_cluster TO $database.$table AS
SELECT
    $values
FROM $intake.${table}_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND $time > now64(3, 'UTC') - INTERVAL $keep_days DAY;
