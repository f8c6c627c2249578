-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
CREATE MATERIALIZED VIEW IF NOT EXISTS $intake.${table}_read$on_cluster TO $intake.${table}_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, $fields) AS fields,
    multiIf(
        NOT isValidJSON(raw), 'not JSON',
        JSONType(raw) != 'Object', 'not a JSON object',
        $checks,
        fields.$time > toUnixTimestamp64Milli(now64(3)) + $ahead_ms, $ahead,
        '') AS fault
FROM $intake.${table}_topic;
