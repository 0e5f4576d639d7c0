"""The grading network, what it sees, and the file it is kept in."""
