"""What refinement reaches and costs, beside other methods."""
