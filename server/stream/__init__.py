"""Version 2 of the websocket."""
