"""Files that others have trained -> reference networks. Nothing in them is executed."""
