"""Sound inputs of every kind that the program reads, and how users read them."""
