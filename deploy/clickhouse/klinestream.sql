-- Made from klinestream/market/tables.py by `klinestream store clickhouse`: change it there, not here.

-- For those who read.
CREATE DATABASE IF NOT EXISTS `klinestream`;

-- Where topics become rows: nobody else has to look there.
CREATE DATABASE IF NOT EXISTS `klinestream_intake`;

-- Lines that are no record of their topic, as they came, and where to find them there.
CREATE TABLE IF NOT EXISTS `klinestream`.dead_lines
(
    `topic` LowCardinality(String) CODEC(ZSTD(1)),
    `partition` UInt64 CODEC(T64, ZSTD(1)),
    `offset` UInt64 CODEC(Delta, ZSTD(1)),
    `written_time` Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    `found_time` DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    `reason` LowCardinality(String) CODEC(ZSTD(1)),
    `raw` String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(found_time)
ORDER BY (`topic`, `partition`, `offset`)
TTL toDateTime(found_time) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One complete sliding window of a symbol.
CREATE TABLE IF NOT EXISTS `klinestream`.windows
(
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `start_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `end_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `close` Float64 CODEC(ZSTD(1)),
    `average_price` Float64 CODEC(ZSTD(1)),
    `low` Float64 CODEC(ZSTD(1)),
    `high` Float64 CODEC(ZSTD(1)),
    `volume` Float64 CODEC(ZSTD(1)),
    `points` Int64 CODEC(T64, ZSTD(1)),
    `rsi` Nullable(Float64) CODEC(ZSTD(1)),
    `rsi_ready` Bool CODEC(ZSTD(1)),
    `since_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `revision` Int64 CODEC(T64, ZSTD(1)),
    `version` UInt128 MATERIALIZED bitShiftLeft(toUInt128(`revision`), 64) + toUInt128(9223372036854775807 - toUnixTimestamp64Milli(`since_time`)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(`end_time`)
ORDER BY (`symbol`, `end_time`)
TTL toDateTime(`end_time`) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: symbol, end_time.
CREATE VIEW IF NOT EXISTS `klinestream`.windows_final AS
SELECT * FROM `klinestream`.windows FINAL;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.windows_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`symbol` String, `window_start` Int64, `window_end` Int64, `close` Float64, `average_price` Float64, `low` Float64, `high` Float64, `volume` Float64, `points` Int64, `rsi` Nullable(Float64), `rsi_ready` Bool, `since` Int64, `revision` Int64),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.windows_taken TO `klinestream`.windows AS
SELECT
    fields.`symbol` AS `symbol`,
    fromUnixTimestamp64Milli(fields.`window_start`, 'UTC') AS `start_time`,
    fromUnixTimestamp64Milli(fields.`window_end`, 'UTC') AS `end_time`,
    fields.`close` AS `close`,
    fields.`average_price` AS `average_price`,
    fields.`low` AS `low`,
    fields.`high` AS `high`,
    fields.`volume` AS `volume`,
    fields.`points` AS `points`,
    fields.`rsi` AS `rsi`,
    fields.`rsi_ready` AS `rsi_ready`,
    fromUnixTimestamp64Milli(fields.`since`, 'UTC') AS `since_time`,
    fields.`revision` AS `revision`
FROM `klinestream_intake`.windows_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `end_time` > now64(3, 'UTC') - INTERVAL 7 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.windows_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.windows_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.windows_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_data_aggregated',
    kafka_group_name = 'klinestream-clickhouse-windows',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.windows_read TO `klinestream_intake`.windows_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`symbol` String, `window_start` Int64, `window_end` Int64, `close` Float64, `average_price` Float64, `low` Float64, `high` Float64, `volume` Float64, `points` Int64, `rsi` Nullable(Float64), `rsi_ready` Bool, `since` Int64, `revision` Int64)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        'symbol: expected text',
        'window_start: expected integer, ms since 1970 UTC',
        'window_end: expected integer, ms since 1970 UTC',
        'close: expected number',
        'average_price: expected number',
        'low: expected number',
        'high: expected number',
        'volume: expected number',
        'points: expected integer',
        'rsi: expected number or null',
        'rsi_ready: expected true or false',
        'since: expected integer, ms since 1970 UTC',
        'revision: expected integer',
        'window_end: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['symbol'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['window_start']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['window_end']), -1) NOT BETWEEN 0 AND 4102444799999,
        isNull(toFloat64OrNull(wire['close'])),
        isNull(toFloat64OrNull(wire['average_price'])),
        isNull(toFloat64OrNull(wire['low'])),
        isNull(toFloat64OrNull(wire['high'])),
        isNull(toFloat64OrNull(wire['volume'])),
        coalesce(toInt64OrNull(wire['points']), -1) < 0,
        wire['rsi'] != 'null' AND (isNull(toFloat64OrNull(wire['rsi']))),
        wire['rsi_ready'] NOT IN ('true', 'false'),
        coalesce(toInt64OrNull(wire['since']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['revision']), -1) < 0,
        fields.`window_end` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.windows_topic;

-- One complete sliding window of a symbol over its trades.
CREATE TABLE IF NOT EXISTS `klinestream`.trade_windows
(
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `start_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `end_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `close` Float64 CODEC(ZSTD(1)),
    `average_price` Nullable(Float64) CODEC(ZSTD(1)),
    `average_by_volume` Nullable(Float64) CODEC(ZSTD(1)),
    `low` Nullable(Float64) CODEC(ZSTD(1)),
    `high` Nullable(Float64) CODEC(ZSTD(1)),
    `volume` Float64 CODEC(ZSTD(1)),
    `buy_volume` Nullable(Float64) CODEC(ZSTD(1)),
    `sell_volume` Nullable(Float64) CODEC(ZSTD(1)),
    `points` Int64 CODEC(T64, ZSTD(1)),
    `whole` Bool CODEC(ZSTD(1)),
    `rsi` Nullable(Float64) CODEC(ZSTD(1)),
    `rsi_ready` Bool CODEC(ZSTD(1)),
    `since_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `since_id` Int64 CODEC(T64, ZSTD(1)),
    `source` LowCardinality(String) CODEC(ZSTD(1)),
    `proof` LowCardinality(String) CODEC(ZSTD(1)),
    `revision` Int64 CODEC(T64, ZSTD(1)),
    `version` UInt256 MATERIALIZED bitShiftLeft(toUInt256(`revision`), 128) + bitShiftLeft(toUInt256(9223372036854775807 - toUnixTimestamp64Milli(`since_time`)), 64) + toUInt256(9223372036854775807 - `since_id`) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(`end_time`)
ORDER BY (`symbol`, `end_time`)
TTL toDateTime(`end_time`) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: symbol, end_time.
CREATE VIEW IF NOT EXISTS `klinestream`.trade_windows_final AS
SELECT * FROM `klinestream`.trade_windows FINAL;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.trade_windows_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`symbol` String, `window_start` Int64, `window_end` Int64, `close` Float64, `average_price` Nullable(Float64), `average_by_volume` Nullable(Float64), `low` Nullable(Float64), `high` Nullable(Float64), `volume` Float64, `buy_volume` Nullable(Float64), `sell_volume` Nullable(Float64), `points` Int64, `whole` Bool, `rsi` Nullable(Float64), `rsi_ready` Bool, `since` Int64, `since_id` Int64, `source` String, `proof` String, `revision` Int64),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.trade_windows_taken TO `klinestream`.trade_windows AS
SELECT
    fields.`symbol` AS `symbol`,
    fromUnixTimestamp64Milli(fields.`window_start`, 'UTC') AS `start_time`,
    fromUnixTimestamp64Milli(fields.`window_end`, 'UTC') AS `end_time`,
    fields.`close` AS `close`,
    fields.`average_price` AS `average_price`,
    fields.`average_by_volume` AS `average_by_volume`,
    fields.`low` AS `low`,
    fields.`high` AS `high`,
    fields.`volume` AS `volume`,
    fields.`buy_volume` AS `buy_volume`,
    fields.`sell_volume` AS `sell_volume`,
    fields.`points` AS `points`,
    fields.`whole` AS `whole`,
    fields.`rsi` AS `rsi`,
    fields.`rsi_ready` AS `rsi_ready`,
    fromUnixTimestamp64Milli(fields.`since`, 'UTC') AS `since_time`,
    fields.`since_id` AS `since_id`,
    fields.`source` AS `source`,
    fields.`proof` AS `proof`,
    fields.`revision` AS `revision`
FROM `klinestream_intake`.trade_windows_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `end_time` > now64(3, 'UTC') - INTERVAL 7 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.trade_windows_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.trade_windows_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.trade_windows_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_trade_windows',
    kafka_group_name = 'klinestream-clickhouse-trade_windows',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.trade_windows_read TO `klinestream_intake`.trade_windows_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`symbol` String, `window_start` Int64, `window_end` Int64, `close` Float64, `average_price` Nullable(Float64), `average_by_volume` Nullable(Float64), `low` Nullable(Float64), `high` Nullable(Float64), `volume` Float64, `buy_volume` Nullable(Float64), `sell_volume` Nullable(Float64), `points` Int64, `whole` Bool, `rsi` Nullable(Float64), `rsi_ready` Bool, `since` Int64, `since_id` Int64, `source` String, `proof` String, `revision` Int64)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        'symbol: expected text',
        'window_start: expected integer, ms since 1970 UTC',
        'window_end: expected integer, ms since 1970 UTC',
        'close: expected number',
        'average_price: expected number or null',
        'average_by_volume: expected number or null',
        'low: expected number or null',
        'high: expected number or null',
        'volume: expected number',
        'buy_volume: expected number or null',
        'sell_volume: expected number or null',
        'points: expected integer',
        'whole: expected true or false',
        'rsi: expected number or null',
        'rsi_ready: expected true or false',
        'since: expected integer, ms since 1970 UTC',
        'since_id: expected integer',
        'source: expected text',
        'proof: expected text',
        'revision: expected integer',
        'window_end: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['symbol'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['window_start']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['window_end']), -1) NOT BETWEEN 0 AND 4102444799999,
        isNull(toFloat64OrNull(wire['close'])),
        wire['average_price'] != 'null' AND (isNull(toFloat64OrNull(wire['average_price']))),
        wire['average_by_volume'] != 'null' AND (isNull(toFloat64OrNull(wire['average_by_volume']))),
        wire['low'] != 'null' AND (isNull(toFloat64OrNull(wire['low']))),
        wire['high'] != 'null' AND (isNull(toFloat64OrNull(wire['high']))),
        isNull(toFloat64OrNull(wire['volume'])),
        wire['buy_volume'] != 'null' AND (isNull(toFloat64OrNull(wire['buy_volume']))),
        wire['sell_volume'] != 'null' AND (isNull(toFloat64OrNull(wire['sell_volume']))),
        coalesce(toInt64OrNull(wire['points']), -1) < 0,
        wire['whole'] NOT IN ('true', 'false'),
        wire['rsi'] != 'null' AND (isNull(toFloat64OrNull(wire['rsi']))),
        wire['rsi_ready'] NOT IN ('true', 'false'),
        coalesce(toInt64OrNull(wire['since']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['since_id']), -1) < 0,
        NOT match(wire['source'], '^"[^"]'),
        NOT match(wire['proof'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['revision']), -1) < 0,
        fields.`window_end` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.trade_windows_topic;

-- One closed candle of a symbol and interval.
CREATE TABLE IF NOT EXISTS `klinestream`.candles
(
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `interval` LowCardinality(String) CODEC(ZSTD(1)),
    `open_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `close_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `open` Decimal(38, 8) CODEC(ZSTD(1)),
    `high` Decimal(38, 8) CODEC(ZSTD(1)),
    `low` Decimal(38, 8) CODEC(ZSTD(1)),
    `close` Decimal(38, 8) CODEC(ZSTD(1)),
    `base_volume` Decimal(38, 8) CODEC(ZSTD(1)),
    `quote_volume` Decimal(38, 8) CODEC(ZSTD(1)),
    `taker_base_volume` Decimal(38, 8) CODEC(ZSTD(1)),
    `taker_quote_volume` Decimal(38, 8) CODEC(ZSTD(1)),
    `trades` Int64 CODEC(T64, ZSTD(1)),
    `first_trade_id` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `last_trade_id` Nullable(Int64) CODEC(Delta, ZSTD(1)),
    `klines` Int64 CODEC(T64, ZSTD(1)),
    `complete` Bool CODEC(ZSTD(1)),
    `origin` LowCardinality(String) CODEC(ZSTD(1)),
    `revision` Int64 CODEC(T64, ZSTD(1)),
    `version` UInt128 MATERIALIZED bitShiftLeft(toUInt128(`revision`), 64) + toUInt128(`klines`) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(`open_time`)
ORDER BY (`symbol`, `interval`, `open_time`)
TTL toDateTime(`open_time`) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: symbol, interval, open_time.
CREATE VIEW IF NOT EXISTS `klinestream`.candles_final AS
SELECT * FROM `klinestream`.candles FINAL;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.candles_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`s` String, `i` String, `t` Int64, `T` Int64, `o` Decimal(38, 8), `h` Decimal(38, 8), `l` Decimal(38, 8), `c` Decimal(38, 8), `v` Decimal(38, 8), `q` Decimal(38, 8), `V` Decimal(38, 8), `Q` Decimal(38, 8), `n` Int64, `f` Nullable(Int64), `L` Nullable(Int64), `klines` Int64, `complete` Bool, `origin` String, `revision` Int64),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.candles_taken TO `klinestream`.candles AS
SELECT
    fields.`s` AS `symbol`,
    fields.`i` AS `interval`,
    fromUnixTimestamp64Milli(fields.`t`, 'UTC') AS `open_time`,
    fromUnixTimestamp64Milli(fields.`T`, 'UTC') AS `close_time`,
    fields.`o` AS `open`,
    fields.`h` AS `high`,
    fields.`l` AS `low`,
    fields.`c` AS `close`,
    fields.`v` AS `base_volume`,
    fields.`q` AS `quote_volume`,
    fields.`V` AS `taker_base_volume`,
    fields.`Q` AS `taker_quote_volume`,
    fields.`n` AS `trades`,
    fields.`f` AS `first_trade_id`,
    fields.`L` AS `last_trade_id`,
    fields.`klines` AS `klines`,
    fields.`complete` AS `complete`,
    fields.`origin` AS `origin`,
    fields.`revision` AS `revision`
FROM `klinestream_intake`.candles_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `open_time` > now64(3, 'UTC') - INTERVAL 400 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.candles_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.candles_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.candles_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_candles',
    kafka_group_name = 'klinestream-clickhouse-candles',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.candles_read TO `klinestream_intake`.candles_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`s` String, `i` String, `t` Int64, `T` Int64, `o` Decimal(38, 8), `h` Decimal(38, 8), `l` Decimal(38, 8), `c` Decimal(38, 8), `v` Decimal(38, 8), `q` Decimal(38, 8), `V` Decimal(38, 8), `Q` Decimal(38, 8), `n` Int64, `f` Nullable(Int64), `L` Nullable(Int64), `klines` Int64, `complete` Bool, `origin` String, `revision` Int64)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        's: expected text',
        'i: expected text',
        't: expected integer, ms since 1970 UTC',
        'T: expected integer, ms since 1970 UTC',
        'o: expected decimal string, 8 decimals',
        'h: expected decimal string, 8 decimals',
        'l: expected decimal string, 8 decimals',
        'c: expected decimal string, 8 decimals',
        'v: expected decimal string with 8 decimals, any size',
        'q: expected decimal string with 8 decimals, any size',
        'V: expected decimal string with 8 decimals, any size',
        'Q: expected decimal string with 8 decimals, any size',
        'n: expected integer',
        'f: expected integer, -1 where no trade fell in the second, null where unknown',
        'L: expected integer, -1 where no trade fell in the second, null where unknown',
        'klines: expected integer',
        'complete: expected true or false',
        'origin: expected text',
        'revision: expected integer',
        't: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['s'], '^"[^"]'),
        NOT match(wire['i'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['t']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['T']), -1) NOT BETWEEN 0 AND 4102444799999,
        NOT match(wire['o'], '^"[0-9]{1,15}([.][0-9]{1,8})?"$'),
        NOT match(wire['h'], '^"[0-9]{1,15}([.][0-9]{1,8})?"$'),
        NOT match(wire['l'], '^"[0-9]{1,15}([.][0-9]{1,8})?"$'),
        NOT match(wire['c'], '^"[0-9]{1,15}([.][0-9]{1,8})?"$'),
        NOT match(wire['v'], '^"[0-9]{1,15}([.][0-9]{1,8})?"$'),
        NOT match(wire['q'], '^"[0-9]{1,15}([.][0-9]{1,8})?"$'),
        NOT match(wire['V'], '^"[0-9]{1,15}([.][0-9]{1,8})?"$'),
        NOT match(wire['Q'], '^"[0-9]{1,15}([.][0-9]{1,8})?"$'),
        coalesce(toInt64OrNull(wire['n']), -1) < 0,
        wire['f'] != 'null' AND (coalesce(toInt64OrNull(wire['f']), -2) < -1),
        wire['L'] != 'null' AND (coalesce(toInt64OrNull(wire['L']), -2) < -1),
        coalesce(toInt64OrNull(wire['klines']), -1) < 0,
        wire['complete'] NOT IN ('true', 'false'),
        NOT match(wire['origin'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['revision']), -1) < 0,
        fields.`t` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.candles_topic;

-- The indicators of one closed candle.
CREATE TABLE IF NOT EXISTS `klinestream`.indicators
(
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `interval` LowCardinality(String) CODEC(ZSTD(1)),
    `open_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `close_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `close` Float64 CODEC(ZSTD(1)),
    `readings` Map(LowCardinality(String), Nullable(Float64)) CODEC(ZSTD(1)),
    `unready` Array(LowCardinality(String)) CODEC(ZSTD(1)),
    `since_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `revision` Int64 CODEC(T64, ZSTD(1)),
    `version` UInt128 MATERIALIZED bitShiftLeft(toUInt128(`revision`), 64) + toUInt128(9223372036854775807 - toUnixTimestamp64Milli(`since_time`)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(`open_time`)
ORDER BY (`symbol`, `interval`, `open_time`)
TTL toDateTime(`open_time`) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: symbol, interval, open_time.
CREATE VIEW IF NOT EXISTS `klinestream`.indicators_final AS
SELECT * FROM `klinestream`.indicators FINAL;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.indicators_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`s` String, `i` String, `t` Int64, `T` Int64, `c` Float64, `values` Map(String, Nullable(Float64)), `unready` Array(String), `since` Int64, `revision` Int64),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.indicators_taken TO `klinestream`.indicators AS
SELECT
    fields.`s` AS `symbol`,
    fields.`i` AS `interval`,
    fromUnixTimestamp64Milli(fields.`t`, 'UTC') AS `open_time`,
    fromUnixTimestamp64Milli(fields.`T`, 'UTC') AS `close_time`,
    fields.`c` AS `close`,
    fields.`values` AS `readings`,
    fields.`unready` AS `unready`,
    fromUnixTimestamp64Milli(fields.`since`, 'UTC') AS `since_time`,
    fields.`revision` AS `revision`
FROM `klinestream_intake`.indicators_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `open_time` > now64(3, 'UTC') - INTERVAL 400 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.indicators_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.indicators_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.indicators_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_indicators',
    kafka_group_name = 'klinestream-clickhouse-indicators',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.indicators_read TO `klinestream_intake`.indicators_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`s` String, `i` String, `t` Int64, `T` Int64, `c` Float64, `values` Map(String, Nullable(Float64)), `unready` Array(String), `since` Int64, `revision` Int64)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        's: expected text',
        'i: expected text',
        't: expected integer, ms since 1970 UTC',
        'T: expected integer, ms since 1970 UTC',
        'c: expected number',
        'values: expected object: name to number or null',
        'unready: expected list of text',
        'since: expected integer, ms since 1970 UTC',
        'revision: expected integer',
        't: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['s'], '^"[^"]'),
        NOT match(wire['i'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['t']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['T']), -1) NOT BETWEEN 0 AND 4102444799999,
        isNull(toFloat64OrNull(wire['c'])),
        NOT startsWith(wire['values'], '{') OR NOT arrayAll(pair -> pair.2 = 'null' OR isNotNull(toFloat64OrNull(pair.2)), JSONExtractKeysAndValuesRaw(raw, 'values')),
        NOT startsWith(wire['unready'], '[') OR NOT arrayAll(name -> startsWith(name, '"'), JSONExtractArrayRaw(raw, 'unready')),
        coalesce(toInt64OrNull(wire['since']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['revision']), -1) < 0,
        fields.`t` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.indicators_topic;

-- A rule's buy or sell on one closed candle.
CREATE TABLE IF NOT EXISTS `klinestream`.signals
(
    `id` String CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `interval` LowCardinality(String) CODEC(ZSTD(1)),
    `open_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `close_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `side` LowCardinality(String) CODEC(ZSTD(1)),
    `rule` LowCardinality(String) CODEC(ZSTD(1)),
    `state` LowCardinality(String) CODEC(ZSTD(1)),
    `price` Float64 CODEC(ZSTD(1)),
    `value` Float64 CODEC(ZSTD(1)),
    `threshold` Float64 CODEC(ZSTD(1)),
    `reason` LowCardinality(String) CODEC(ZSTD(1)),
    `since_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `revision` Int64 CODEC(T64, ZSTD(1)),
    `version` UInt128 MATERIALIZED bitShiftLeft(toUInt128(`revision`), 64) + toUInt128(9223372036854775807 - toUnixTimestamp64Milli(`since_time`)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(`open_time`)
ORDER BY (`id`, `open_time`)
TTL toDateTime(`open_time`) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: id, open_time.
CREATE VIEW IF NOT EXISTS `klinestream`.signals_final AS
SELECT * FROM `klinestream`.signals FINAL;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.signals_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`id` String, `s` String, `i` String, `t` Int64, `T` Int64, `side` String, `rule` String, `state` String, `price` Float64, `value` Float64, `limit` Float64, `reason` String, `since` Int64, `revision` Int64),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.signals_taken TO `klinestream`.signals AS
SELECT
    fields.`id` AS `id`,
    fields.`s` AS `symbol`,
    fields.`i` AS `interval`,
    fromUnixTimestamp64Milli(fields.`t`, 'UTC') AS `open_time`,
    fromUnixTimestamp64Milli(fields.`T`, 'UTC') AS `close_time`,
    fields.`side` AS `side`,
    fields.`rule` AS `rule`,
    fields.`state` AS `state`,
    fields.`price` AS `price`,
    fields.`value` AS `value`,
    fields.`limit` AS `threshold`,
    fields.`reason` AS `reason`,
    fromUnixTimestamp64Milli(fields.`since`, 'UTC') AS `since_time`,
    fields.`revision` AS `revision`
FROM `klinestream_intake`.signals_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `open_time` > now64(3, 'UTC') - INTERVAL 400 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.signals_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.signals_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.signals_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_signals',
    kafka_group_name = 'klinestream-clickhouse-signals',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.signals_read TO `klinestream_intake`.signals_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`id` String, `s` String, `i` String, `t` Int64, `T` Int64, `side` String, `rule` String, `state` String, `price` Float64, `value` Float64, `limit` Float64, `reason` String, `since` Int64, `revision` Int64)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        'id: expected text',
        's: expected text',
        'i: expected text',
        't: expected integer, ms since 1970 UTC',
        'T: expected integer, ms since 1970 UTC',
        'side: expected text',
        'rule: expected text',
        'state: expected text',
        'price: expected number',
        'value: expected number',
        'limit: expected number',
        'reason: expected text',
        'since: expected integer, ms since 1970 UTC',
        'revision: expected integer',
        't: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['id'], '^"[^"]'),
        NOT match(wire['s'], '^"[^"]'),
        NOT match(wire['i'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['t']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['T']), -1) NOT BETWEEN 0 AND 4102444799999,
        NOT match(wire['side'], '^"[^"]'),
        NOT match(wire['rule'], '^"[^"]'),
        NOT match(wire['state'], '^"[^"]'),
        isNull(toFloat64OrNull(wire['price'])),
        isNull(toFloat64OrNull(wire['value'])),
        isNull(toFloat64OrNull(wire['limit'])),
        NOT match(wire['reason'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['since']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['revision']), -1) < 0,
        fields.`t` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.signals_topic;

-- What a symbol did over the last day of closed 1m candles, and since its run began.
CREATE TABLE IF NOT EXISTS `klinestream`.aggregates
(
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `open_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `close_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `day_candles` Int64 CODEC(T64, ZSTD(1)),
    `day_volume` Float64 CODEC(ZSTD(1)),
    `day_average_volume` Float64 CODEC(ZSTD(1)),
    `day_average_open` Float64 CODEC(ZSTD(1)),
    `day_average_close` Float64 CODEC(ZSTD(1)),
    `day_low` Float64 CODEC(ZSTD(1)),
    `day_high` Float64 CODEC(ZSTD(1)),
    `candles` Int64 CODEC(T64, ZSTD(1)),
    `volume` Float64 CODEC(ZSTD(1)),
    `average_volume` Float64 CODEC(ZSTD(1)),
    `average_open` Float64 CODEC(ZSTD(1)),
    `average_close` Float64 CODEC(ZSTD(1)),
    `low` Float64 CODEC(ZSTD(1)),
    `high` Float64 CODEC(ZSTD(1)),
    `since_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `revision` Int64 CODEC(T64, ZSTD(1)),
    `version` UInt128 MATERIALIZED bitShiftLeft(toUInt128(`revision`), 64) + toUInt128(9223372036854775807 - toUnixTimestamp64Milli(`since_time`)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMMDD(`open_time`)
ORDER BY (`symbol`, `open_time`)
TTL toDateTime(`open_time`) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: symbol, open_time.
CREATE VIEW IF NOT EXISTS `klinestream`.aggregates_final AS
SELECT * FROM `klinestream`.aggregates FINAL;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.aggregates_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`s` String, `t` Int64, `T` Int64, `day_candles` Int64, `day_volume` Float64, `day_average_volume` Float64, `day_average_open` Float64, `day_average_close` Float64, `day_low` Float64, `day_high` Float64, `candles` Int64, `volume` Float64, `average_volume` Float64, `average_open` Float64, `average_close` Float64, `low` Float64, `high` Float64, `since` Int64, `revision` Int64),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.aggregates_taken TO `klinestream`.aggregates AS
SELECT
    fields.`s` AS `symbol`,
    fromUnixTimestamp64Milli(fields.`t`, 'UTC') AS `open_time`,
    fromUnixTimestamp64Milli(fields.`T`, 'UTC') AS `close_time`,
    fields.`day_candles` AS `day_candles`,
    fields.`day_volume` AS `day_volume`,
    fields.`day_average_volume` AS `day_average_volume`,
    fields.`day_average_open` AS `day_average_open`,
    fields.`day_average_close` AS `day_average_close`,
    fields.`day_low` AS `day_low`,
    fields.`day_high` AS `day_high`,
    fields.`candles` AS `candles`,
    fields.`volume` AS `volume`,
    fields.`average_volume` AS `average_volume`,
    fields.`average_open` AS `average_open`,
    fields.`average_close` AS `average_close`,
    fields.`low` AS `low`,
    fields.`high` AS `high`,
    fromUnixTimestamp64Milli(fields.`since`, 'UTC') AS `since_time`,
    fields.`revision` AS `revision`
FROM `klinestream_intake`.aggregates_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `open_time` > now64(3, 'UTC') - INTERVAL 7 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.aggregates_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.aggregates_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.aggregates_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_aggregates',
    kafka_group_name = 'klinestream-clickhouse-aggregates',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.aggregates_read TO `klinestream_intake`.aggregates_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`s` String, `t` Int64, `T` Int64, `day_candles` Int64, `day_volume` Float64, `day_average_volume` Float64, `day_average_open` Float64, `day_average_close` Float64, `day_low` Float64, `day_high` Float64, `candles` Int64, `volume` Float64, `average_volume` Float64, `average_open` Float64, `average_close` Float64, `low` Float64, `high` Float64, `since` Int64, `revision` Int64)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        's: expected text',
        't: expected integer, ms since 1970 UTC',
        'T: expected integer, ms since 1970 UTC',
        'day_candles: expected integer',
        'day_volume: expected number',
        'day_average_volume: expected number',
        'day_average_open: expected number',
        'day_average_close: expected number',
        'day_low: expected number',
        'day_high: expected number',
        'candles: expected integer',
        'volume: expected number',
        'average_volume: expected number',
        'average_open: expected number',
        'average_close: expected number',
        'low: expected number',
        'high: expected number',
        'since: expected integer, ms since 1970 UTC',
        'revision: expected integer',
        't: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['s'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['t']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['T']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['day_candles']), -1) < 0,
        isNull(toFloat64OrNull(wire['day_volume'])),
        isNull(toFloat64OrNull(wire['day_average_volume'])),
        isNull(toFloat64OrNull(wire['day_average_open'])),
        isNull(toFloat64OrNull(wire['day_average_close'])),
        isNull(toFloat64OrNull(wire['day_low'])),
        isNull(toFloat64OrNull(wire['day_high'])),
        coalesce(toInt64OrNull(wire['candles']), -1) < 0,
        isNull(toFloat64OrNull(wire['volume'])),
        isNull(toFloat64OrNull(wire['average_volume'])),
        isNull(toFloat64OrNull(wire['average_open'])),
        isNull(toFloat64OrNull(wire['average_close'])),
        isNull(toFloat64OrNull(wire['low'])),
        isNull(toFloat64OrNull(wire['high'])),
        coalesce(toInt64OrNull(wire['since']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['revision']), -1) < 0,
        fields.`t` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.aggregates_topic;

-- What a model says after one closed candle.
CREATE TABLE IF NOT EXISTS `klinestream`.predictions
(
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `interval` LowCardinality(String) CODEC(ZSTD(1)),
    `open_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `close_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `model` LowCardinality(String) CODEC(ZSTD(1)),
    `horizon` LowCardinality(String) CODEC(ZSTD(1)),
    `prediction` Float64 CODEC(ZSTD(1)),
    `probability` Float64 CODEC(ZSTD(1)),
    `inputs` String CODEC(ZSTD(1)),
    `since_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `revision` Int64 CODEC(T64, ZSTD(1)),
    `version` UInt128 MATERIALIZED bitShiftLeft(toUInt128(`revision`), 64) + toUInt128(9223372036854775807 - toUnixTimestamp64Milli(`since_time`)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(`open_time`)
ORDER BY (`symbol`, `interval`, `open_time`, `model`, `inputs`)
TTL toDateTime(`open_time`) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: symbol, interval, open_time, model.
CREATE VIEW IF NOT EXISTS `klinestream`.predictions_final AS
SELECT * FROM `klinestream`.predictions FINAL ORDER BY version DESC, `inputs` DESC LIMIT 1 BY `symbol`, `interval`, `open_time`, `model`;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.predictions_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`s` String, `i` String, `t` Int64, `T` Int64, `model` String, `horizon` String, `prediction` Float64, `probability` Float64, `inputs` String, `since` Int64, `revision` Int64),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.predictions_taken TO `klinestream`.predictions AS
SELECT
    fields.`s` AS `symbol`,
    fields.`i` AS `interval`,
    fromUnixTimestamp64Milli(fields.`t`, 'UTC') AS `open_time`,
    fromUnixTimestamp64Milli(fields.`T`, 'UTC') AS `close_time`,
    fields.`model` AS `model`,
    fields.`horizon` AS `horizon`,
    fields.`prediction` AS `prediction`,
    fields.`probability` AS `probability`,
    fields.`inputs` AS `inputs`,
    fromUnixTimestamp64Milli(fields.`since`, 'UTC') AS `since_time`,
    fields.`revision` AS `revision`
FROM `klinestream_intake`.predictions_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `open_time` > now64(3, 'UTC') - INTERVAL 400 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.predictions_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.predictions_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.predictions_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_predictions',
    kafka_group_name = 'klinestream-clickhouse-predictions',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.predictions_read TO `klinestream_intake`.predictions_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`s` String, `i` String, `t` Int64, `T` Int64, `model` String, `horizon` String, `prediction` Float64, `probability` Float64, `inputs` String, `since` Int64, `revision` Int64)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        's: expected text',
        'i: expected text',
        't: expected integer, ms since 1970 UTC',
        'T: expected integer, ms since 1970 UTC',
        'model: expected text',
        'horizon: expected text',
        'prediction: expected number',
        'probability: expected number',
        'inputs: expected text',
        'since: expected integer, ms since 1970 UTC',
        'revision: expected integer',
        't: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['s'], '^"[^"]'),
        NOT match(wire['i'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['t']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['T']), -1) NOT BETWEEN 0 AND 4102444799999,
        NOT match(wire['model'], '^"[^"]'),
        NOT match(wire['horizon'], '^"[^"]'),
        isNull(toFloat64OrNull(wire['prediction'])),
        isNull(toFloat64OrNull(wire['probability'])),
        NOT match(wire['inputs'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['since']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['revision']), -1) < 0,
        fields.`t` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.predictions_topic;

-- A state that a gap of the feed has reached: the ledger of gaps.
CREATE TABLE IF NOT EXISTS `klinestream`.gaps
(
    `gap` String CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `state` LowCardinality(String) CODEC(ZSTD(1)),
    `producer` LowCardinality(String) CODEC(ZSTD(1)),
    `from_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `to_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `klines` Int64 CODEC(T64, ZSTD(1)),
    `source` LowCardinality(String) CODEC(ZSTD(1)),
    `proved` Bool CODEC(ZSTD(1)),
    `trades` Nullable(Int64) CODEC(T64, ZSTD(1)),
    `reason` String CODEC(ZSTD(1)),
    `time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `version` UInt128 MATERIALIZED bitShiftLeft(toUInt128(toUnixTimestamp64Milli(`time`)), 64) + toUInt128(`klines`) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(`from_time`)
ORDER BY (`gap`, `state`, `producer`, `from_time`)
TTL toDateTime(`from_time`) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: gap, state, producer, from_time.
CREATE VIEW IF NOT EXISTS `klinestream`.gaps_final AS
SELECT * FROM `klinestream`.gaps FINAL;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.gaps_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`gap` String, `s` String, `state` String, `producer` String, `from` Int64, `to` Int64, `klines` Int64, `source` String, `proved` Bool, `trades` Nullable(Int64), `reason` String, `time` Int64),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.gaps_taken TO `klinestream`.gaps AS
SELECT
    fields.`gap` AS `gap`,
    fields.`s` AS `symbol`,
    fields.`state` AS `state`,
    fields.`producer` AS `producer`,
    fromUnixTimestamp64Milli(fields.`from`, 'UTC') AS `from_time`,
    fromUnixTimestamp64Milli(fields.`to`, 'UTC') AS `to_time`,
    fields.`klines` AS `klines`,
    fields.`source` AS `source`,
    fields.`proved` AS `proved`,
    fields.`trades` AS `trades`,
    fields.`reason` AS `reason`,
    fromUnixTimestamp64Milli(fields.`time`, 'UTC') AS `time`
FROM `klinestream_intake`.gaps_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `from_time` > now64(3, 'UTC') - INTERVAL 400 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.gaps_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.gaps_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.gaps_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_feed_gaps',
    kafka_group_name = 'klinestream-clickhouse-gaps',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.gaps_read TO `klinestream_intake`.gaps_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`gap` String, `s` String, `state` String, `producer` String, `from` Int64, `to` Int64, `klines` Int64, `source` String, `proved` Bool, `trades` Nullable(Int64), `reason` String, `time` Int64)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        'gap: expected text',
        's: expected text',
        'state: expected text',
        'producer: expected text',
        'from: expected integer, ms since 1970 UTC',
        'to: expected integer, ms since 1970 UTC',
        'klines: expected integer',
        'source: expected text',
        'proved: expected true or false',
        'trades: expected integer or null',
        'reason: expected text, may be empty',
        'time: expected integer, ms since 1970 UTC',
        'from: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['gap'], '^"[^"]'),
        NOT match(wire['s'], '^"[^"]'),
        NOT match(wire['state'], '^"[^"]'),
        NOT match(wire['producer'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['from']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['to']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['klines']), -1) < 0,
        NOT match(wire['source'], '^"[^"]'),
        wire['proved'] NOT IN ('true', 'false'),
        wire['trades'] != 'null' AND (coalesce(toInt64OrNull(wire['trades']), -1) < 0),
        NOT startsWith(wire['reason'], '"'),
        coalesce(toInt64OrNull(wire['time']), -1) NOT BETWEEN 0 AND 4102444799999,
        fields.`from` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.gaps_topic;

-- A state that missing ids of trades or books have reached: their ledger.
CREATE TABLE IF NOT EXISTS `klinestream`.id_gaps
(
    `gap` String CODEC(ZSTD(1)),
    `feed` LowCardinality(String) CODEC(ZSTD(1)),
    `symbol` LowCardinality(String) CODEC(ZSTD(1)),
    `state` LowCardinality(String) CODEC(ZSTD(1)),
    `producer` LowCardinality(String) CODEC(ZSTD(1)),
    `from_id` Int64 CODEC(T64, ZSTD(1)),
    `to_id` Int64 CODEC(T64, ZSTD(1)),
    `after_time` Nullable(DateTime64(3, 'UTC')) CODEC(Delta, ZSTD(1)),
    `before_time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `obtained` Int64 CODEC(T64, ZSTD(1)),
    `reason` String CODEC(ZSTD(1)),
    `time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `version` UInt128 MATERIALIZED bitShiftLeft(toUInt128(toUnixTimestamp64Milli(`time`)), 64) + toUInt128(`obtained`) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(`before_time`)
ORDER BY (`gap`, `state`, `producer`, `before_time`)
TTL toDateTime(`before_time`) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: gap, state, producer, before_time.
CREATE VIEW IF NOT EXISTS `klinestream`.id_gaps_final AS
SELECT * FROM `klinestream`.id_gaps FINAL;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.id_gaps_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`gap` String, `feed` String, `s` String, `state` String, `producer` String, `from` Int64, `to` Int64, `after` Nullable(Int64), `before` Int64, `obtained` Int64, `reason` String, `time` Int64),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.id_gaps_taken TO `klinestream`.id_gaps AS
SELECT
    fields.`gap` AS `gap`,
    fields.`feed` AS `feed`,
    fields.`s` AS `symbol`,
    fields.`state` AS `state`,
    fields.`producer` AS `producer`,
    fields.`from` AS `from_id`,
    fields.`to` AS `to_id`,
    fromUnixTimestamp64Milli(fields.`after`, 'UTC') AS `after_time`,
    fromUnixTimestamp64Milli(fields.`before`, 'UTC') AS `before_time`,
    fields.`obtained` AS `obtained`,
    fields.`reason` AS `reason`,
    fromUnixTimestamp64Milli(fields.`time`, 'UTC') AS `time`
FROM `klinestream_intake`.id_gaps_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `before_time` > now64(3, 'UTC') - INTERVAL 400 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.id_gaps_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.id_gaps_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.id_gaps_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_id_gaps',
    kafka_group_name = 'klinestream-clickhouse-id_gaps',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.id_gaps_read TO `klinestream_intake`.id_gaps_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`gap` String, `feed` String, `s` String, `state` String, `producer` String, `from` Int64, `to` Int64, `after` Nullable(Int64), `before` Int64, `obtained` Int64, `reason` String, `time` Int64)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        'gap: expected text',
        'feed: expected text',
        's: expected text',
        'state: expected text',
        'producer: expected text',
        'from: expected integer',
        'to: expected integer',
        'after: expected integer, ms since 1970 UTC or null',
        'before: expected integer, ms since 1970 UTC',
        'obtained: expected integer',
        'reason: expected text, may be empty',
        'time: expected integer, ms since 1970 UTC',
        'before: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['gap'], '^"[^"]'),
        NOT match(wire['feed'], '^"[^"]'),
        NOT match(wire['s'], '^"[^"]'),
        NOT match(wire['state'], '^"[^"]'),
        NOT match(wire['producer'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['from']), -1) < 0,
        coalesce(toInt64OrNull(wire['to']), -1) < 0,
        wire['after'] != 'null' AND (coalesce(toInt64OrNull(wire['after']), -1) NOT BETWEEN 0 AND 4102444799999),
        coalesce(toInt64OrNull(wire['before']), -1) NOT BETWEEN 0 AND 4102444799999,
        coalesce(toInt64OrNull(wire['obtained']), -1) < 0,
        NOT startsWith(wire['reason'], '"'),
        coalesce(toInt64OrNull(wire['time']), -1) NOT BETWEEN 0 AND 4102444799999,
        fields.`before` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.id_gaps_topic;

-- What happened to the parts of the pipeline.
CREATE TABLE IF NOT EXISTS `klinestream`.events
(
    `component` LowCardinality(String) CODEC(ZSTD(1)),
    `event` LowCardinality(String) CODEC(ZSTD(1)),
    `time` DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    `detail` LowCardinality(String) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(`time`)
ORDER BY (`component`, `event`, `time`, `detail`)
TTL toDateTime(`time`) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1;

-- One row an identity, merged already or not: component, event, time.
CREATE VIEW IF NOT EXISTS `klinestream`.events_final AS
SELECT * FROM `klinestream`.events FINAL ORDER BY `detail` DESC LIMIT 1 BY `component`, `event`, `time`;

-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.events_lines
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` Tuple(`component` String, `event` String, `time` Int64, `detail` String),
    `fault` String
)
ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.events_taken TO `klinestream`.events AS
SELECT
    fields.`component` AS `component`,
    fields.`event` AS `event`,
    fromUnixTimestamp64Milli(fields.`time`, 'UTC') AS `time`,
    fields.`detail` AS `detail`
FROM `klinestream_intake`.events_lines
-- What is older than the table keeps would be deleted at once, and a batch of old lines would open a partition for each span.
WHERE fault = '' AND `time` > now64(3, 'UTC') - INTERVAL 400 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.events_refused TO `klinestream`.dead_lines AS
SELECT topic, partition, offset, written_time, now64(3, 'UTC') AS found_time, fault AS reason, raw
FROM `klinestream_intake`.events_lines
WHERE fault != '';

-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS `klinestream_intake`.events_topic (`raw` String)
ENGINE = Kafka(`klinestream_kafka`)
SETTINGS
    kafka_topic_list = 'crypto_pipeline_events',
    kafka_group_name = 'klinestream-clickhouse-events',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_thread_per_consumer = 1,
    kafka_flush_interval_ms = 1000;

-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS `klinestream_intake`.events_read TO `klinestream_intake`.events_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, 'Tuple(`component` String, `event` String, `time` Int64, `detail` String)') AS fields,
    [
        'not JSON',
        'not a JSON object',
        'component: expected text',
        'event: expected text',
        'time: expected integer, ms since 1970 UTC',
        'detail: expected text',
        'time: more than a day ahead of the server\'s clock'
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        NOT match(wire['component'], '^"[^"]'),
        NOT match(wire['event'], '^"[^"]'),
        coalesce(toInt64OrNull(wire['time']), -1) NOT BETWEEN 0 AND 4102444799999,
        NOT match(wire['detail'], '^"[^"]'),
        fields.`time` > toUnixTimestamp64Milli(now64(3)) + 86400000
    ], true)] AS fault
FROM `klinestream_intake`.events_topic;
