"""Tuning methods and the runs they leave."""
