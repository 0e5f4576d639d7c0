"""The drawn patient: spine, discs, bone, soft tissue and what narrows them."""
