"""The precision that every bundle has, apart from manifests: options name it, and are instant."""

from __future__ import annotations

BASE_PRECISION = "fp32"
"""The precision of a manifest's `graphs`; `precisions` lists graphs that compute in others."""
