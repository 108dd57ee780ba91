"""The hyperstyle-rt command."""
