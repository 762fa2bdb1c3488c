"""How any run opens, loops and stops; its parts read the config."""
