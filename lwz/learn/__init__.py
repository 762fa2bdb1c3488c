"""Learning: advantages, losses, log-probabilities, and the optimiser's step."""
