"""Paints the drawn patient on a slice: tissues of the spine and of the trunk around it, with soft edges."""
