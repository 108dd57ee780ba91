// ONNX Runtime's C API: the version handshake, owning handles, statuses as Failures.
#pragma once

#include <onnxruntime_c_api.h>

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

using Environment = std::shared_ptr<OrtEnv>;

// The process's environment: made for the first model, released with what is last freed.
Environment environment();

// ONNX Runtime's name of a provider, "CPUExecutionProvider".
const char* provider_name(hsrt_provider provider);

// Throw Failure (HSRT_ERROR_BACKEND) unless this ONNX Runtime offers the provider.
void check_offered(hsrt_provider provider);

// What sessions are opened with; see _session_options in backends/onnxruntime.py.
Owned<OrtSessionOptions> session_options(const hsrt_model_options& options);

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
