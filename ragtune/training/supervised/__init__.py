"""Tuning on completions and on running text."""
