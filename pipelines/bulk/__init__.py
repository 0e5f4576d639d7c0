"""Bulk work: predictions in shards, `lumbar merge`, which joins them, and the Ray cluster as what answers studies."""
