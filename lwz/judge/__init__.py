"""Judges and systems under evaluation: HTTP endpoints and our own engine behind one interface."""
