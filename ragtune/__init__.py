"""ragtune joins retrieval and fine-tuning: documents in, a tuned, citing, measured assistant out."""

__version__ = "0.1.0"
