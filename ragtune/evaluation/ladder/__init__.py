"""Base and tuned, closed book, with retrieval and on the oracle page: what was shown, answered and counted."""
