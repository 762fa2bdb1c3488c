"""What is trained: Qwen2.5 as data and functions."""
