"""What a process may compute with: devices and cores."""
