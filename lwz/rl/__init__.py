"""The parts of one GRPO step; they read the config."""
