"""The pictures of README and docs."""
