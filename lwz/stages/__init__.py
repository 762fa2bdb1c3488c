"""Conductors: one verb per file, the only readers of the config."""
