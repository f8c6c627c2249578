"""What sets up, checks and releases klinestream."""
