"""The proof that what was published is what a replay gives, to the last bit."""
