"""What a user of these tools can do wrong."""

from __future__ import annotations

from hyperstyle_rt.errors import HyperStyleError


class PhotosError(HyperStyleError):
    """A file or an option that these tools cannot work with."""
