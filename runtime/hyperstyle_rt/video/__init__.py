"""Films of faces: read, aligned, inverted frame after frame, edited over time, with their sound."""
