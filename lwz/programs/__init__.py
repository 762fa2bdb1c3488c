"""Compiled programs: each jitted step of a run, built from plain arguments."""
