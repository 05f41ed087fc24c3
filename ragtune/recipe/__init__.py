"""One YAML describes one assistant."""
