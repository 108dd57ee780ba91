"""Triton: inversions and edits as models of a server, and graphs that it runs as a backend."""
