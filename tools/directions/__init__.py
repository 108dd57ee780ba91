"""Editing directions: converted from published files, found, and measured."""
