-- $meaning.
CREATE TABLE IF NOT EXISTS $database.$table$on_cluster
(
    $columns
)
ENGINE = ${replicated}ReplacingMergeTree$version
PARTITION BY $partition
ORDER BY ($sorting)
TTL toDateTime($time) + INTERVAL $keep_days DAY
SETTINGS ttl_only_drop_parts = 1;
