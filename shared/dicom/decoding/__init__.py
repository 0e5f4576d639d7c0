"""From the bytes of one frame to its stored pixels, whoever wrote them."""
