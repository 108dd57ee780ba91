// Stands between the library and ONNX Runtime: a program that includes this says in stand_in()
// which functions of ONNX Runtime's API it replaces. The library finds the OrtGetApiBase of the
// program before ONNX Runtime's own.
#pragma once

#include <dlfcn.h>
#include <onnxruntime_c_api.h>

inline const OrtApi* real_ort = nullptr;

void stand_in(OrtApi& api);  // the program's

namespace detail {

inline const OrtApiBase* real_base() {
  using Get = const OrtApiBase* (*)();
  static const OrtApiBase* base = reinterpret_cast<Get>(dlsym(RTLD_NEXT, "OrtGetApiBase"))();
  return base;
}

inline const OrtApi* ORT_API_CALL replaced_api(uint32_t version) noexcept {
  static OrtApi api;
  real_ort = real_base()->GetApi(version);
  if (real_ort == nullptr) return nullptr;
  api = *real_ort;
  stand_in(api);
  return &api;
}

inline const char* ORT_API_CALL real_version() noexcept { return real_base()->GetVersionString(); }

}  // namespace detail

extern "C" __attribute__((visibility("default"))) const OrtApiBase* OrtGetApiBase() noexcept {
  static const OrtApiBase base = {detail::replaced_api, detail::real_version};
  return &base;
}
