"""How text is judged."""
