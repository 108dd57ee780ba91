"""How far gradient steps bring an inversion, how fast, and beside what."""
