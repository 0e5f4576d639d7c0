"""Kills commands at random moments, resumes them, and compares with runs that nobody killed."""
