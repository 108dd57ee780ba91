"""More than one machine: inversions on Ray, the service on Ray Serve, Triton."""
