"""Finds axial series that are mirrored against their own headers by their pixels, and corrects them."""
