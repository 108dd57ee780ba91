"""Gradient descent on whatever an inversion is made of."""
