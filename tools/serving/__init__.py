"""Measuring the HTTP service."""
