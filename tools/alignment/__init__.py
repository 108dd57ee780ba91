"""How well photos are aligned, and where the face models come from."""
