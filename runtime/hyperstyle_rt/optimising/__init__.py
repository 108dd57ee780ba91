"""Descent on what an inversion is made of."""
