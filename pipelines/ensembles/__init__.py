"""Several runs that answer together, blends of finished submissions, and the weights of both."""
