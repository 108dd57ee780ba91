"""Inversion of many pictures: sources, the run, its results and their records, resuming."""
