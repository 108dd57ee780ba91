"""``python -m hyperstyle_rt``: the same as the hyperstyle-rt command."""

from .cli.app import main

if __name__ == "__main__":
    main()
