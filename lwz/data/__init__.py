"""Data: documents, tokens, prompts, preferences, and the funnel that makes a prompt set."""
