"""Work that is spread over machines: as shards, each a command of its own, or as actors on a Ray cluster."""
