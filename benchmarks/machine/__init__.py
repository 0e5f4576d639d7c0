"""What depends on the machine: busy cores and kinds of processors."""
