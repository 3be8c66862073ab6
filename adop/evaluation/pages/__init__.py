"""Pages of results: that of a run's evaluation, and that which compares runs."""
