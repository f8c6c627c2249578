"""Files of klines and trades that others wrote, into topics or into the archive."""
