"""FastAPI: the chart's page, its websocket, health and metrics."""
