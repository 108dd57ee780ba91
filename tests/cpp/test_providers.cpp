// CUDA and TensorRT without a GPU: ONNX Runtime's functions for them are replaced. What is
// appended, which models are opened, and that a provider which was not obtained is an error.
//
//     test_providers BUNDLE FOLDER     (make_bundle.py's rich one)
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fixture.hpp"
#include "ort_stand_in.hpp"

extern "C" {  // cuda_stand_in.c
extern int stand_in_cuda_status;
extern int stand_in_cuda_count;
}

namespace fs = std::filesystem;

namespace {

// What the stand-ins do.
bool offers_gpu = true;     // among the providers of this build
bool loads_gpu = true;      // its libraries are there
bool registers_gpu = true;  // and the session really has it
std::vector<std::string> appended;
std::vector<fs::path> opened;  // files; graphs from memory are empty paths
std::vector<std::string> settings;
fs::path rewritten;  // a file that somebody writes anew, with the same content, meanwhile

const char* const kOffered[] = {"TensorrtExecutionProvider", "CUDAExecutionProvider",
                                "CPUExecutionProvider"};

OrtStatus* ORT_API_CALL available(char*** names, int* count) noexcept {
  if (!offers_gpu) return real_ort->GetAvailableProviders(names, count);
  *names = const_cast<char**>(kOffered);
  *count = 3;
  return nullptr;
}

OrtStatus* ORT_API_CALL release_available(char** names, int count) noexcept {
  if (!offers_gpu) return real_ort->ReleaseAvailableProviders(names, count);
  return nullptr;
}

OrtStatus* note(const char* provider) {
  appended.emplace_back(provider);
  if (loads_gpu) return nullptr;
  return real_ort->CreateStatus(ORT_FAIL, "Failed to load shared library\nlibcublas is missing");
}

OrtStatus* ORT_API_CALL append_cuda(OrtSessionOptions*, const OrtCUDAProviderOptionsV2*) noexcept {
  return note("CUDA");
}

OrtStatus* ORT_API_CALL append_tensorrt(OrtSessionOptions*,
                                        const OrtTensorRTProviderOptionsV2*) noexcept {
  return note("TensorRT");
}

template <typename Options>
OrtStatus* ORT_API_CALL create(Options** options) noexcept {
  *options = reinterpret_cast<Options*>(new int);
  return nullptr;
}

template <typename Options>
OrtStatus* ORT_API_CALL update(Options*, const char* const* keys, const char* const* values,
                               size_t count) noexcept {
  for (size_t at = 0; at < count; ++at) settings.push_back(std::string(keys[at]) + values[at]);
  return nullptr;
}

template <typename Options>
void ORT_API_CALL release(Options* options) noexcept {
  delete reinterpret_cast<int*>(options);
}

// The GPU's memory is the host's.
OrtStatus* ORT_API_CALL create_memory_info(const char* name, OrtAllocatorType type, int device,
                                           OrtMemType kind, OrtMemoryInfo** info) noexcept {
  if (!registers_gpu) return real_ort->CreateMemoryInfo(name, type, device, kind, info);
  CHECK(std::strcmp(name, "Cuda") == 0);
  return real_ort->CreateCpuMemoryInfo(type, kind, info);
}

OrtStatus* ORT_API_CALL create_session(const OrtEnv* env, const ORTCHAR_T* path,
                                       const OrtSessionOptions* options,
                                       OrtSession** session) noexcept {
  opened.emplace_back(path);
  return real_ort->CreateSession(env, path, options, session);
}

OrtStatus* ORT_API_CALL create_session_of_array(const OrtEnv* env, const void* model, size_t size,
                                                const OrtSessionOptions* options,
                                                OrtSession** session) noexcept {
  opened.emplace_back();
  if (!rewritten.empty()) {
    const std::string content = read(rewritten);
    fs::remove(rewritten);
    std::ofstream(rewritten, std::ios::binary) << content;
  }
  return real_ort->CreateSessionFromArray(env, model, size, options, session);
}

hsrt_status load(const std::string& bundle, hsrt_provider provider, hsrt_precision precision,
                 int device = 0) {
  hyperstyle_rt::ModelOptions options;
  options.provider = provider;
  options.precision = precision;
  options.device = device;
  hsrt_model* model = nullptr;
  const hsrt_status status = hsrt_model_load(HSRT_API_VERSION, bundle.c_str(), &options, &model);
  hsrt_model_free(model);
  return status;
}

// What a file holds but for the provider that it names.
std::vector<unsigned char> without_computed(const std::vector<unsigned char>& file) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  return {file.begin() + static_cast<ptrdiff_t>(sizeof length + length), file.end()};
}

// An inversion on a provider gives what it gives on the CPU, from files of one folder, or from what
// was verified.
void test_inversion(Fixture& f, hsrt_provider provider, hsrt_precision precision,
                    const fs::path& folder, const std::vector<std::string>& providers) {
  hyperstyle_rt::ModelOptions options;
  options.precision = precision;
  const hyperstyle_rt::Model on_cpu(f.bundle, options);
  const auto expected = without_computed(hyperstyle_rt::Session(on_cpu).invert(f.picture).save());
  appended.clear();
  opened.clear();
  settings.clear();
  options.provider = provider;
  const hyperstyle_rt::Model model(f.bundle, options);
  CHECK(without_computed(hyperstyle_rt::Session(model).invert(f.picture).save()) == expected);
  CHECK(opened.size() == 4);  // a graph each
  for (const fs::path& path : opened) CHECK(path.parent_path() == folder);
  CHECK(appended.size() == 4 * providers.size());
  for (size_t at = 0; at < appended.size(); ++at) {
    CHECK(appended[at] == providers[at % providers.size()]);
    CHECK(settings[at] == "device_id0");
  }
}

// A refined inversion takes one graph more, for which there is no plan.
void test_refined_inversion(Fixture& f) {
  const auto file = refined(f.bundle, f.session.invert(f.picture).save());
  f.session.render(hyperstyle_rt::Inversion::load(f.model, file), f.result);
  const auto expected = f.drawn;
  hyperstyle_rt::ModelOptions options;
  options.provider = HSRT_PROVIDER_CUDA;
  const hyperstyle_rt::Model on_cuda(f.bundle, options);
  opened.clear();
  hyperstyle_rt::Session(on_cuda).render(hyperstyle_rt::Inversion::load(on_cuda, file), f.result);
  CHECK(f.drawn == expected);
  CHECK(opened.size() == 2);  // weights and channel_offsets; the generator is open already
  options.provider = HSRT_PROVIDER_TENSORRT;
  const hyperstyle_rt::Model on_plans(f.bundle, options);
  const hyperstyle_rt::Session session(on_plans);
  const auto face = hyperstyle_rt::Inversion::load(on_plans, file);
  CHECK(fails(hsrt_session_render(session.get(), face.get(), nullptr, 1, &f.result),
              HSRT_ERROR_BUNDLE,
              "do not draw inversions with channel offsets; use"
              " HSRT_PROVIDER_CUDA"));
}

void test_refusals(Fixture& f) {
  const auto refused = [&](hsrt_provider provider, const char* reason) {
    return fails(load(f.bundle, provider, HSRT_PRECISION_FP32), HSRT_ERROR_BACKEND, reason);
  };
  for (const hsrt_provider provider : {HSRT_PROVIDER_CUDA, HSRT_PROVIDER_TENSORRT}) {
    offers_gpu = false;
    CHECK(refused(provider, "use HSRT_PROVIDER_CPU"));
    offers_gpu = true;
    loads_gpu = false;
    CHECK(refused(provider, "libcublas is missing"));
    loads_gpu = true;
    registers_gpu = false;
    CHECK(refused(provider, "that was asked for"));
    registers_gpu = true;
  }
  stand_in_cuda_status = 100;
  CHECK(refused(HSRT_PROVIDER_TENSORRT, "no usable GPU (CUDA error 100)"));
  stand_in_cuda_status = 0;
  stand_in_cuda_count = 0;
  CHECK(refused(HSRT_PROVIDER_TENSORRT, "there is no GPU 0"));
  stand_in_cuda_count = 2;
  CHECK(fails(load(f.bundle, HSRT_PROVIDER_TENSORRT, HSRT_PRECISION_FP32, 1), HSRT_ERROR_BUNDLE,
              "has no generator.plan for TensorRT 10.x-sm120-fp32, only plans for"));
}

// A plan is native code: an altered one is not given to ONNX Runtime.
void test_altered_plan(Fixture& f, const fs::path& folder) {
  fs::remove_all(folder);
  fs::copy(f.bundle, folder, fs::copy_options::recursive);
  const fs::path plans = folder / "tensorrt" / "10.13.2-sm89-fp16";
  std::ofstream(plans / "generator.plan") << "a PLAN";
  opened.clear();
  const auto refused = [&](const char* reason) {
    return fails(load(folder.string(), HSRT_PROVIDER_TENSORRT, HSRT_PRECISION_FP16),
                 HSRT_ERROR_BUNDLE, reason);
  };
  CHECK(refused("generator.plan is altered"));
  fs::remove_all(folder / "elsewhere");
  fs::rename(folder / "tensorrt", folder / "elsewhere");
  fs::create_directory_symlink(folder / "elsewhere", folder / "tensorrt");
  CHECK(refused("generator.plan is altered"));  // through a link, too
  CHECK(opened.empty());
}

// Data that ONNX Runtime reads from their file are those that were verified, or it is an error.
void test_data_changed_while_they_are_opened(Fixture& f, const fs::path& folder) {
  fs::remove_all(folder);
  fs::copy(f.bundle, folder, fs::copy_options::recursive);
  const auto load_on_cpu = [&] {
    return load(folder.string(), HSRT_PROVIDER_CPU, HSRT_PRECISION_FP32);
  };
  CHECK(load_on_cpu() == HSRT_OK);
  rewritten = folder / "generator.onnx.data";
  CHECK(fails(load_on_cpu(), HSRT_ERROR_BUNDLE, "were changed while they were opened"));
  rewritten = folder / "encoder.onnx.data";  // of another graph
  CHECK(load_on_cpu() == HSRT_OK);
  rewritten.clear();
}

void test_plans_need_files(Fixture& f) {
  const std::string manifest = read(fs::path(f.bundle) / "manifest.json");
  const std::string average = read(fs::path(f.bundle) / "latent_average.safetensors");
  const hsrt_buffer files[] = {
      {"manifest.json", manifest.data(), manifest.size()},
      {"latent_average.safetensors", average.data(), average.size()},
  };
  hyperstyle_rt::ModelOptions options;
  options.provider = HSRT_PROVIDER_TENSORRT;
  hsrt_model* model = nullptr;
  CHECK(fails(hsrt_model_load_memory(HSRT_API_VERSION, files, 2, &options, &model),
              HSRT_ERROR_BUNDLE, "load the bundle with hsrt_model_load"));
}

}  // namespace

void stand_in(OrtApi& api) {
  api.GetAvailableProviders = available;
  api.ReleaseAvailableProviders = release_available;
  api.CreateCUDAProviderOptions = create<OrtCUDAProviderOptionsV2>;
  api.UpdateCUDAProviderOptions = update<OrtCUDAProviderOptionsV2>;
  api.ReleaseCUDAProviderOptions = release<OrtCUDAProviderOptionsV2>;
  api.SessionOptionsAppendExecutionProvider_CUDA_V2 = append_cuda;
  api.CreateTensorRTProviderOptions = create<OrtTensorRTProviderOptionsV2>;
  api.UpdateTensorRTProviderOptions = update<OrtTensorRTProviderOptionsV2>;
  api.ReleaseTensorRTProviderOptions = release<OrtTensorRTProviderOptionsV2>;
  api.SessionOptionsAppendExecutionProvider_TensorRT_V2 = append_tensorrt;
  api.CreateMemoryInfo = create_memory_info;
  api.CreateSession = create_session;
  api.CreateSessionFromArray = create_session_of_array;
}

int main(int count, char** arguments) {
  if (count != 3) return 2;
  Fixture f(fs::absolute(arguments[1]).string());
  const fs::path plans = fs::path(f.bundle) / "tensorrt";
  test_inversion(f, HSRT_PROVIDER_CUDA, HSRT_PRECISION_FP32, {}, {"CUDA"});
  test_inversion(f, HSRT_PROVIDER_CUDA, HSRT_PRECISION_FP16, {}, {"CUDA"});
  test_inversion(f, HSRT_PROVIDER_TENSORRT, HSRT_PRECISION_FP32, plans / "10.13.2-sm89-fp32",
                 {"TensorRT", "CUDA"});
  test_inversion(f, HSRT_PROVIDER_TENSORRT, HSRT_PRECISION_FP16, plans / "10.13.2-sm89-fp16",
                 {"TensorRT", "CUDA"});
  test_refined_inversion(f);
  test_refusals(f);
  test_altered_plan(f, arguments[2]);
  test_data_changed_while_they_are_opened(f, arguments[2]);
  test_plans_need_files(f);
  return outcome();
}
