"""Sweeps: experiments with several values of some keys."""
