"""What late klines and corrected candles change, computed again and published with a higher revision."""
