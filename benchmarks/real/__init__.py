"""What was measured on real scans with grades."""
