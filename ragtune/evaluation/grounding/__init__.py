"""Whether answers stand on the passages they cite, and refusals come where they should."""
