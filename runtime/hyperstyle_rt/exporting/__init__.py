"""A tuned generator as a bundle of its own."""
