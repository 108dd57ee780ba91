"""Training of HyperStyle for any domain: generator, W-encoder, hypernetwork."""
