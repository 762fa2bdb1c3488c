"""How things come to rest."""
