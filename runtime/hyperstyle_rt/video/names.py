"""Numbers of films that the command line names; it imports nothing."""

SMOOTHED_OVER = 0.08
"""Seconds: deviation of the Gaussian of :func:`~.smoothing.smooth`; two frames of a film of 25."""

FOLLOWING = 2
"""Iterations of a frame that goes on from the one before it; measured in docs/video.md."""

READABLE_FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts")
"""By which a file is taken for a film; how it is read depends on its content."""

WRITABLE_FILMS = (".mp4", ".mov", ".mkv", ".webm")
"""Films with room for sound; :data:`~.writing.WRITTEN_AS` says how they are encoded."""
