"""The demo's unseen studies on a Ray cluster of two nodes on this machine, of which one is killed, and in shards."""
