"""Who may ask, and how often: what everything that listens for HTTP shares. Pure, but for the connections."""
