"""Benchmarks: arenas, critics' marks, ratings, length scores, human judgements."""
