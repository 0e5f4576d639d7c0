"""What was trained so far, with which settings and which result."""
