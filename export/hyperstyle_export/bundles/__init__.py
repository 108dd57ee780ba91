"""Bundles: written, measured, recovered, adapted."""
