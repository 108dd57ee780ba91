"""Accuracy of one backend against another."""
