-- Each message, read once. Nothing is kept here: it goes on to the table, or with a reason to the dead lines.
CREATE TABLE IF NOT EXISTS $intake.${table}_lines$on_cluster
(
    `topic` String,
    `partition` UInt64,
    `offset` UInt64,
    `written_time` Nullable(DateTime64(3)),
    `raw` String,
    `fields` $fields,
    `fault` String
)
ENGINE = Null;
