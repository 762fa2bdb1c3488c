"""Rewards of text, and monitoring of reward hacking."""
