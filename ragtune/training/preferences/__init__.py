"""Tuning on better and worse completions, and the reward model that learns from the same pairs."""
