"""Records made visible: curves, one HTML page, the terminal."""
