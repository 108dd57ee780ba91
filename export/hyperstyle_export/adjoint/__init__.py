"""Reverse-mode differentiation of the graphs."""
