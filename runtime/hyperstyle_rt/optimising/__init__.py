"""Gradient descent on the offsets of an inversion."""
