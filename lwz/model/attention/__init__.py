"""Attention: one reference, the backends that are faster, and the choice between them."""
