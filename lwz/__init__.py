"""LongWriter-Zero end to end in pure-functional JAX (arXiv 2506.18841)."""
