-- The topic, read by this server's consumers: whole messages, since a message that is no JSON must not stop the next one.
CREATE TABLE IF NOT EXISTS $intake.${table}_topic$on_cluster (`raw` String)
ENGINE = Kafka$collection
SETTINGS
    $settings;
