// The GPU as the NVIDIA driver describes it; the counterpart of backends/cuda/driver.py.
#pragma once

namespace hsrt {

// Compute capability of a GPU as in a plan's key: 89 is 8.9. The driver is loaded for the question,
// nothing is linked. Throws Failure (HSRT_ERROR_BACKEND) if there is no driver or no such GPU.
int gpu_architecture(int device);

}  // namespace hsrt
