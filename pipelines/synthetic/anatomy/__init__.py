"""The drawn patient in numbers: spine, profiles along it, and build."""
