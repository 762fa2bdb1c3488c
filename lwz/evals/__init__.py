"""How the result is measured."""
