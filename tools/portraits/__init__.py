"""Rendered portraits with known factors: training and test pictures that carry no one's face."""
