"""Walkers of picture files, one module a format: from header to end mark, before any decoder."""
