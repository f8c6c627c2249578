"""What /status shows: the parts as they say themselves how they are."""
