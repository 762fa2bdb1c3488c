"""What comes in: text, tokens, prompts, preferences."""
