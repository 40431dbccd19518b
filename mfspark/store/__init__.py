"""Delta tables: the only place that says "delta"."""
