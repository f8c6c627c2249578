"""Order books, as they come from their topic."""
