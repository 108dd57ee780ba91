"""How good a bundle's inversions are, in figures, tables and pictures."""
