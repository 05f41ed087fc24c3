"""One stage, one file: the Python API."""
