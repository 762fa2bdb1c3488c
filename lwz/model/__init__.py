"""The model: Qwen2.5 as data and functions."""
