"""What klinestream is deployed with. Not shipped in the wheel."""
