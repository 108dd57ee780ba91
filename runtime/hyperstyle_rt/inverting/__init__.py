"""From pictures to inversions: the state of a method, its phases, and what comes before them."""
