"""One prompt, one answerer, every number checked."""
