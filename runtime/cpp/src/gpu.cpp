#include "gpu.hpp"

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include <memory>
#include <string>

#include "failure.hpp"

namespace hsrt {
namespace {

// CUdevice_attribute of cuda.h
constexpr int kComputeCapabilityMajor = 75;
constexpr int kComputeCapabilityMinor = 76;

Failure unusable(const std::string& sentence) { return Failure(HSRT_ERROR_BACKEND, sentence); }

#ifdef _WIN32
void* open_driver() { return LoadLibraryA("nvcuda.dll"); }
void* find(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
void close_driver(void* library) { FreeLibrary(static_cast<HMODULE>(library)); }
#else
void* open_driver() { return dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); }
void* find(void* library, const char* name) { return dlsym(library, name); }
void close_driver(void* library) { dlclose(library); }
#endif

// CUDA's functions as long as they are needed.
class Driver {
 public:
  Driver() : library_(open_driver(), close_driver) {
    if (!library_) {
      throw unusable(
          "there is no NVIDIA driver on this machine; install it, or use "
          "HSRT_PROVIDER_CPU");
    }
  }

  // Throws Failure unless CUDA's function succeeds.
  template <typename... Arguments>
  void call(const char* name, Arguments... arguments) const {
    using Function = int (*)(Arguments...);
    void* function = find(library_.get(), name);
    if (function == nullptr) throw unusable("the NVIDIA driver is too old; install a newer one");
    const int status = reinterpret_cast<Function>(function)(arguments...);
    if (status == 0) return;
    throw unusable("the NVIDIA driver finds no usable GPU (CUDA error " + std::to_string(status) +
                   "); check nvidia-smi, and in a container that the GPU is passed, as by "
                   "--gpus all");
  }

 private:
  std::unique_ptr<void, void (*)(void*)> library_;
};

}  // namespace

int gpu_architecture(int device) {
  const Driver driver;
  int count = 0;
  driver.call("cuInit", 0u);
  driver.call("cuDeviceGetCount", &count);
  if (device >= count) {
    throw unusable("there is no GPU " + std::to_string(device) + ", the NVIDIA driver finds " +
                   std::to_string(count) + "; in a container pass it, as by --gpus all");
  }
  int handle = 0, major = 0, minor = 0;
  driver.call("cuDeviceGet", &handle, device);
  driver.call("cuDeviceGetAttribute", &major, kComputeCapabilityMajor, handle);
  driver.call("cuDeviceGetAttribute", &minor, kComputeCapabilityMinor, handle);
  return 10 * major + minor;
}

}  // namespace hsrt
