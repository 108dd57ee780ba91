"""The runtime beside torch and beside what a machine could do: time, memory, accuracy."""
