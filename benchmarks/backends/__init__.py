"""Which library computes the networks of both stages fastest."""
