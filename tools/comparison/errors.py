"""What can go wrong in a comparison."""

from hyperstyle_rt.errors import HyperStyleError


class ComparisonError(HyperStyleError):
    """A comparison cannot be made, or gone on with."""
