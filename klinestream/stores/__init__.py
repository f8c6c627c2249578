"""Topics as tables of databases that people already run; what they are made from stands in `market/tables.py`."""
