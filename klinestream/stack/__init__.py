"""The embedded stack: a Kafka broker, a Flink cluster and klinestream's own parts, supervised in the foreground."""
