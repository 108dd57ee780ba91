"""What NVIDIA's tools load: TensorRT plans, and models that name them."""
