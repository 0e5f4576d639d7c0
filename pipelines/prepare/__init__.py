"""`lumbar prepare`: decodes a data set once, into a store and, on request, a tree of PNG files."""
