"""An index of chunks, and the search in it."""
