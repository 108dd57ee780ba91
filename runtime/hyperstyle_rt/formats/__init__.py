"""The files of hyperstyle-rt: bundles, inversions, directions."""
