"""The CUDA driver, device memory, and arrays shared with other libraries."""
