"""Runs for the machines that people have."""
