"""The engine: one definition of the market's arithmetic. Pure: no sockets, no Kafka, no Flink, no clock."""
