"""Judges and systems as objects: endpoints and our own engine in one form, and their replies."""
