"""Grafana's dashboards as typed code: `python -m deploy.dashboards` writes the files that Grafana is provisioned with.

    board.py    panels ◄─ queries.py   SQL and PromQL, and the variables that they are filled with
      │
    market.py · signals.py · aggregates.py · health.py ─► deploy/grafana/provisioning/ ─► Grafana

Queries name tables and columns as `klinestream/market/tables.py` has them. Tests run each on a real PostgreSQL or Prometheus.
"""
