"""What depends on the machine: its limits, busy cores and kinds of processors."""
