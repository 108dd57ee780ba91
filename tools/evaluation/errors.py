"""What the tools that measure raise."""

from hyperstyle_rt.errors import HyperStyleError


class EvaluationError(HyperStyleError):
    """A file the evaluation needs cannot be used."""
