-- A topic as raw bytes: JSON is Python's business, a whole batch at a time. What the broker knows of a record comes along.
CREATE TABLE $table (
    line BYTES,
    shard INT METADATA FROM 'partition' VIRTUAL,
    record_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    record_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    arrival AS PROCTIME()
) WITH (
    'connector' = 'kafka',
    'topic' = '$topic',
    'format' = 'raw',
    'scan.startup.mode' = '$startup_mode',
    'properties.auto.offset.reset' = 'earliest',
    'properties.group.id' = '$group',
    -- Bound what a catch-up holds in memory, and what waits in front of a batch.
    'properties.max.partition.fetch.bytes' = '1048576',
    'properties.max.poll.records' = '5000'$connection
)
