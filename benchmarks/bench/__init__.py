"""`make bench`: what everything else waits for, each line a ratio in one run."""
