"""Files become pages, pages become chunks."""
