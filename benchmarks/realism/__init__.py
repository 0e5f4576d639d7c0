"""Real slices beside synthetic ones: one scale, one windowing, simple numbers."""
