"""The HTTP service, ``hyperstyle-rt serve``: thin, over models and sessions."""
