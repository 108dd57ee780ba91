"""Errors that a user can cause and mend.

The text of every error here is one sentence that says what is wrong and how to mend it. The command
line prints it and exits with 2; anything else that escapes is a bug and keeps its traceback.
"""


class HyperStyleError(Exception):
    """Base of all errors caused by what the user gave."""


class PictureError(HyperStyleError):
    """A picture that cannot be read, decoded, or used."""


class BundleError(HyperStyleError):
    """An engine bundle that is missing, incomplete, altered, or of another format version."""


class InversionError(HyperStyleError):
    """An inversion file that is damaged or belongs to another bundle."""


class EditError(HyperStyleError):
    """An edit with an unknown direction or a bad amount, or a directions file that is damaged."""


class BackendError(HyperStyleError):
    """A backend or execution provider that is not usable on this machine."""
