"""Generation of trajectories with the model."""
