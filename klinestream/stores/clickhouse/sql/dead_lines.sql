-- Lines that are no record of their topic, as they came, and where to find them there.
CREATE TABLE IF NOT EXISTS $database.dead_lines$on_cluster
(
    `topic` LowCardinality(String) CODEC(ZSTD(1)),
    `partition` UInt64 CODEC(T64, ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `written_time` Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    `found_time` DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    `reason` LowCardinality(String) CODEC(ZSTD(1)),
    `raw` String CODEC(ZSTD(1))
)
ENGINE = ${replicated}ReplacingMergeTree
PARTITION BY toYYYYMM(found_time)
ORDER BY (`topic`, `partition`, `offset`)
TTL toDateTime(found_time) + INTERVAL $keep_days DAY
SETTINGS ttl_only_drop_parts = 1;
