"""Every method of a bundle on the same pictures: figures, time, memory, and what edits do."""
