"""Directions, edits, and what lies between two faces."""
