// The C functions of models, versions and the log.
#include <iterator>

#include "boundary.hpp"
#include "build_info.hpp"
#include "checks.hpp"
#include "files.hpp"
#include "handles.hpp"

namespace {

using namespace hsrt;

constexpr int kMaxThreads = 1024;
constexpr int kMaxDevice = 1023;

void check_version(uint32_t api_version) {
  if (api_version == HSRT_API_VERSION) return;
  throw Failure(HSRT_ERROR_VERSION,
                "the program was compiled for version " + std::to_string(api_version) +
                    " of this interface and the library serves version " +
                    std::to_string(HSRT_API_VERSION) +
                    "; compile it with this library's header, passing HSRT_API_VERSION");
}

hsrt_model_options checked_options(const hsrt_model_options* given_options) {
  hsrt_model_options options = {};
  if (given_options == nullptr) return options;
  options = checked_struct(*given_options, "hsrt_model_options");
  check_range("hsrt_model_options.provider", options.provider, HSRT_PROVIDER_CPU,
              HSRT_PROVIDER_TENSORRT);
  check_range("hsrt_model_options.device", options.device, 0, kMaxDevice);
  check_range("hsrt_model_options.threads", options.threads, 0, kMaxThreads);
  check_range("hsrt_model_options.precision", options.precision, HSRT_PRECISION_FP32,
              HSRT_PRECISION_FP16);
  check_range("hsrt_model_options.optimisation", options.optimisation, HSRT_OPTIMISE_ALL,
              HSRT_OPTIMISE_NONE);
  return options;
}

std::map<std::string, std::string_view> buffers(const hsrt_buffer* files, size_t count) {
  given(files, "files");
  std::map<std::string, std::string_view> named;
  for (size_t at = 0; at < count; ++at) {
    const std::string name = &given(files[at].name, "hsrt_buffer.name");
    if (files[at].data == nullptr && files[at].size > 0) {
      throw bad_argument("hsrt_buffer.data must not be NULL where size is not 0");
    }
    const std::string_view content(static_cast<const char*>(files[at].data), files[at].size);
    if (!named.emplace(name, content).second) {
      throw bad_argument("two buffers have the same name");
    }
  }
  return named;
}

}  // namespace

const char* hsrt_last_error(void) noexcept { return last_error(); }

const char* hsrt_status_name(hsrt_status status) noexcept {
  switch (status) {
    case HSRT_OK: return "HSRT_OK";
    case HSRT_ERROR_ARGUMENT: return "HSRT_ERROR_ARGUMENT";
    case HSRT_ERROR_VERSION: return "HSRT_ERROR_VERSION";
    case HSRT_ERROR_PICTURE: return "HSRT_ERROR_PICTURE";
    case HSRT_ERROR_BUNDLE: return "HSRT_ERROR_BUNDLE";
    case HSRT_ERROR_INVERSION: return "HSRT_ERROR_INVERSION";
    case HSRT_ERROR_BACKEND: return "HSRT_ERROR_BACKEND";
    case HSRT_ERROR_ABORTED: return "HSRT_ERROR_ABORTED";
    case HSRT_ERROR_MEMORY: return "HSRT_ERROR_MEMORY";
    case HSRT_ERROR_INTERNAL: return "HSRT_ERROR_INTERNAL";
    default: return "unknown status";
  }
}

const char* hsrt_version(void) noexcept { return kVersionText; }

const char* hsrt_git_revision(void) noexcept { return kGitRevision; }

const char* hsrt_onnxruntime_version(void) noexcept { return OrtGetApiBase()->GetVersionString(); }

uint32_t hsrt_api_version(void) noexcept { return HSRT_API_VERSION; }

void hsrt_set_log_callback(hsrt_log_callback callback, void* user) noexcept {
  set_log(callback, user);
}

hsrt_status hsrt_model_load(uint32_t api_version, const char* directory,
                            const hsrt_model_options* options, hsrt_model** model) noexcept {
  return guarded([&] {
    check_version(api_version);
    given(directory, "directory");
    given(model, "model");
    const hsrt_model_options checked = checked_options(options);
    Bundle bundle = Bundle::open(path_of(directory));
    *model = new hsrt_model{std::make_shared<const Model>(std::move(bundle), checked)};
  });
}

hsrt_status hsrt_model_load_memory(uint32_t api_version, const hsrt_buffer* files, size_t count,
                                   const hsrt_model_options* options, hsrt_model** model) noexcept {
  return guarded([&] {
    check_version(api_version);
    given(model, "model");
    const hsrt_model_options checked = checked_options(options);
    Bundle bundle = Bundle::of_memory(buffers(files, count));
    *model = new hsrt_model{std::make_shared<const Model>(std::move(bundle), checked)};
  });
}

hsrt_status hsrt_model_get_info(const hsrt_model* model, hsrt_model_info* info) noexcept {
  return guarded([&] {
    const Model& opened = *given(model, "model").model;
    checked_struct(given(info, "info"), "hsrt_model_info");
    const Manifest& manifest = opened.manifest();
    info->name = manifest.name.c_str();
    info->domain = manifest.domain.c_str();
    info->license = manifest.license.c_str();
    info->space = manifest.space.c_str();
    info->digest = opened.digest().c_str();
    info->provider = opened.provider().c_str();
    info->image_width = manifest.image_size.width;
    info->image_height = manifest.image_size.height;
    info->input_width = manifest.input_size.width;
    info->input_height = manifest.input_size.height;
    info->latent_rows = manifest.num_latents;
    info->latent_width = manifest.latent_width;
    info->code_rows = manifest.codes ? static_cast<int32_t>(manifest.tuned_layers.size()) : 0;
    info->code_width = manifest.codes ? manifest.codes->width : 0;
    info->method_count = manifest.methods.size();
    info->default_method =
        manifest.default_method.empty() ? nullptr : manifest.default_method.c_str();
  });
}

hsrt_status hsrt_model_get_method(const hsrt_model* model, size_t index,
                                  hsrt_method_info* info) noexcept {
  return guarded([&] {
    const auto& methods = given(model, "model").model->manifest().methods;
    checked_struct(given(info, "info"), "hsrt_method_info");
    if (index >= methods.size()) {
      throw bad_argument("index must be less than hsrt_model_info.method_count, " +
                         std::to_string(methods.size()) + ", not " + std::to_string(index));
    }
    const auto& [name, method] = *std::next(methods.begin(), static_cast<ptrdiff_t>(index));
    info->name = name.c_str();
    info->iterations = method.iterations();
  });
}

void hsrt_model_free(hsrt_model* model) noexcept { delete model; }
