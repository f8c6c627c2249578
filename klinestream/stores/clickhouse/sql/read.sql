-- `wire` is the JSON of each field as it stands: it tells a zero from what is missing. The first thing that is wrong is the fault.
-- In an array, since multiIf computes `wire` anew for each of its branches; place 0, where nothing is wrong, is ''.
CREATE MATERIALIZED VIEW IF NOT EXISTS $intake.${table}_read$on_cluster TO $intake.${table}_lines AS
WITH CAST(JSONExtractKeysAndValuesRaw(raw), 'Map(String, String)') AS wire
SELECT
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    _timestamp_ms AS written_time,
    raw,
    JSONExtract(raw, $fields) AS fields,
    [
        'not JSON',
        'not a JSON object',
        $expected,
        $ahead
    ][indexOf([
        empty(wire) AND NOT isValidJSON(raw),
        empty(wire) AND JSONType(raw) != 'Object',
        $wrong,
        fields.$time > toUnixTimestamp64Milli(now64(3)) + $ahead_ms
    ], true)] AS fault
FROM $intake.${table}_topic;
