"""Faults of the real data, planted on request and named in the manifest."""
