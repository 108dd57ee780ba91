"""``python -m hyperstyle_rt.cli``."""

from . import main

main()
