"""Faces in photos: found, aligned, pasted back."""
