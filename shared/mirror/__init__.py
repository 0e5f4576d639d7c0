"""Axial series that are mirrored against their own headers: found by their pixels, and turned."""
