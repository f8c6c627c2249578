"""Feeds by one interface: each a file; all that they have in common is beside them."""
