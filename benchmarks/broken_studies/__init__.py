"""Whole studies that are broken in one way each, and what every command makes of them beside sound studies."""
