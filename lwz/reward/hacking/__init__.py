"""Reward hacking, seen: signals in the texts, and the alarms they raise."""
