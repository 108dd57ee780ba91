"""What a user of the training tools can do wrong."""

from hyperstyle_rt.errors import HyperStyleError


class TrainingError(HyperStyleError):
    """A folder, a config, a checkpoint or a weight file that training cannot use."""
