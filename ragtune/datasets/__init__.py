"""Questions become tuning rows through the search that serves."""
