"""Model repositories for Triton: graphs as models of the server, the loop as a Python model."""
