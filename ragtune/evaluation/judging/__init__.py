"""Answers judged by a language model with a rubric, and how far it agrees with scorer and people."""
