// ONNX Runtime's C API: the version handshake, owning handles, statuses as Failures.
#pragma once

#include <onnxruntime_c_api.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "hyperstyle_rt/hyperstyle_rt.h"

namespace hsrt {

// The API of the loaded ONNX Runtime in the version this library needs. Throws Failure
// (HSRT_ERROR_BACKEND) if it does not serve it. `base` is replaced by tests only.
const OrtApi& ort_api();
const OrtApi& ort_api_of(const OrtApiBase& base);

// Throw Failure(status, "<what> (<ONNX Runtime's words>)") unless `result` is a success.
void check_ort(OrtStatus* result, hsrt_status status, std::string_view what);

struct Release {
  void operator()(OrtStatus* status) const { ort_api().ReleaseStatus(status); }
  void operator()(OrtEnv* env) const { ort_api().ReleaseEnv(env); }
  void operator()(OrtSession* session) const { ort_api().ReleaseSession(session); }
  void operator()(OrtSessionOptions* options) const { ort_api().ReleaseSessionOptions(options); }
  void operator()(OrtIoBinding* binding) const { ort_api().ReleaseIoBinding(binding); }
  void operator()(OrtValue* value) const { ort_api().ReleaseValue(value); }
  void operator()(OrtMemoryInfo* info) const { ort_api().ReleaseMemoryInfo(info); }
  void operator()(OrtAllocator* allocator) const { ort_api().ReleaseAllocator(allocator); }
  void operator()(OrtThreadingOptions* options) const {
    ort_api().ReleaseThreadingOptions(options);
  }
  void operator()(OrtTypeInfo* info) const { ort_api().ReleaseTypeInfo(info); }
  void operator()(OrtArenaCfg* config) const { ort_api().ReleaseArenaCfg(config); }
  void operator()(OrtTensorTypeAndShapeInfo* info) const {
    ort_api().ReleaseTensorTypeAndShapeInfo(info);
  }
  void operator()(OrtCUDAProviderOptionsV2* options) const {
    ort_api().ReleaseCUDAProviderOptions(options);
  }
  void operator()(OrtTensorRTProviderOptionsV2* options) const {
    ort_api().ReleaseTensorRTProviderOptions(options);
  }
};

template <typename Handle>
using Owned = std::unique_ptr<Handle, Release>;

// The process's environment of ONNX Runtime and the pool of threads in it that sessions share. A
// thread waits without spinning, so that a pool costs nothing while others work.
class Environment {
 public:
  // Made for the first model, with a pool of so many threads; released with what is last freed.
  static std::shared_ptr<Environment> get(int threads);

  explicit Environment(int threads);

  OrtEnv* env() const { return env_.get(); }

  // Open a graph with the pool, if it is as large as this, or else with threads of its own, as
  // everywhere in an application that has made the environment itself, without a pool. External
  // data are among the options. `what` is said of a failure (HSRT_ERROR_BUNDLE).
  Owned<OrtSession> open(std::string_view model, OrtSessionOptions* options, int threads,
                         std::string_view what);

  // The same of a model in a file.
  Owned<OrtSession> open(const std::filesystem::path& model, OrtSessionOptions* options,
                         int threads, std::string_view what);

 private:
  Owned<OrtEnv> env_;
  int pool_threads_;
  std::atomic<bool> has_pool_{true};

  template <typename Create>
  Owned<OrtSession> with_threads(const Create& create, OrtSessionOptions* options, int threads,
                                 std::string_view what);
};

// ONNX Runtime's name of a provider, "CPUExecutionProvider".
const char* provider_name(hsrt_provider provider);

// The Python runtime's name of the backend that is this provider, "cpu".
const char* backend_name(hsrt_provider provider);

// Throw Failure (HSRT_ERROR_BACKEND) unless this ONNX Runtime offers the provider.
void check_offered(hsrt_provider provider);

// What sessions are opened with, threads excepted; see session_options in backends/ort_library.py.
Owned<OrtSessionOptions> session_options(const hsrt_model_options& options);

// Have external data read from a folder. Without it, they are read from nowhere.
void read_data_from(OrtSessionOptions* options, const std::filesystem::path& folder);

// Throw Failure (HSRT_ERROR_BACKEND) unless the session has memory of this kind, which it has from
// the provider that was asked for.
void check_obtained(const OrtSession* session, const OrtMemoryInfo* memory, hsrt_provider provider);

// Give back what ONNX Runtime allocated with its default allocator.
struct FreeDefault {
  void operator()(void* memory) const noexcept;
};

template <typename Type>
using Allocated = std::unique_ptr<Type, FreeDefault>;

OrtAllocator* default_allocator();

Owned<OrtMemoryInfo> host_memory();
Owned<OrtMemoryInfo> device_memory(const hsrt_model_options& options);

}  // namespace hsrt
