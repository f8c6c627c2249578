-- All that the job writes, whatever the topic: key, value and time as text, made by Python.
CREATE TABLE records (
    topic STRING NOT NULL METADATA,
    record_key STRING,
    record_value STRING,
    record_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
    headers MAP<STRING, BYTES> METADATA
) WITH (
    'connector' = 'kafka',
    'topic' = '$topics',
    'key.format' = 'raw',
    'key.fields' = 'record_key',
    'value.format' = 'raw',
    'value.fields-include' = 'EXCEPT_KEY',
    'sink.delivery-guarantee' = '$delivery',
    -- Both only matter to exactly-once; the broker's own bound of a transaction is 15 minutes, the connector's default an hour.
    'sink.transactional-id-prefix' = '$transactions',
    'properties.transaction.timeout.ms' = '600000',
    'properties.linger.ms' = '2',
    'properties.batch.size' = '131072',
    'properties.compression.type' = 'lz4'$connection
)
