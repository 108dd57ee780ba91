"""TensorRT plans: built, cached, built in a process of their own."""
