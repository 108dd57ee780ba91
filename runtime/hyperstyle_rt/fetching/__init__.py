"""Weights that a user names: fetched, verified, pinned and kept."""
