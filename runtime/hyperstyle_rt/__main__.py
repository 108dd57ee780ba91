"""``python -m hyperstyle_rt``: the same as the hyperstyle-rt command."""

from .cli.app import main

main()
