"""Folders of pictures with known factors, and the latents that belong to them."""
