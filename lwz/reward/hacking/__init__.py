"""Monitoring of reward hacking: signals in the texts, and the alarms they raise."""
