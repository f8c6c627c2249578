"""What every process shares: configuration, logging, metrics, and Kafka behind one small interface."""
