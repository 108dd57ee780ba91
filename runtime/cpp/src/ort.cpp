#include "ort.hpp"

#include <onnxruntime_session_options_config_keys.h>

#ifndef _WIN32
#include <sys/resource.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <string>

#include "boundary.hpp"

namespace hsrt {
namespace {

// The youngest function used, AddExternalInitializersFromFilesInMemory, came with 1.18. Versions
// only append, so that newer headers and newer libraries serve, too.
constexpr uint32_t kNeededApi = 18;
static_assert(ORT_API_VERSION >= kNeededApi, "ONNX Runtime's headers must be of 1.18 or newer");

// Builds of ONNX Runtime report their use to its maker, by a thread and a file in the user's home,
// unless they are told not to before there is an environment. Only the process's own environment
// variables can tell it, so it is done when this library is loaded, before threads are likely;
// a value that is there stays.
bool keep_from_reporting() {
  const char* name = "ORT_DISABLE_TELEMETRY";
#ifdef _WIN32
  return std::getenv(name) != nullptr || _putenv_s(name, "1") == 0;
#else
  return setenv(name, "1", 0) == 0;
#endif
}

[[maybe_unused]] const bool is_kept_from_reporting = keep_from_reporting();

// What ONNX Runtime says of a session that is to use the pool of an environment without one.
constexpr const char* kLacksPool = "CreateEnvWithGlobalThreadPools";

// Where ONNX Runtime looks for what a graph reads and the manifest does not list: nowhere. Else it
// would be the working directory.
constexpr const char* kNoFolder = "/nonexistent";
// kOrtSessionOptionsModelExternalInitializersFileFolderPath of newer headers.
constexpr const char* kDataFolder = "session.model_external_initializers_file_folder_path";

constexpr size_t kMostWords = 600;  // bytes of ONNX Runtime's that a sentence quotes

void ORT_API_CALL forward_log(void*, OrtLoggingLevel severity, const char*, const char*,
                              const char*, const char* message) {
  switch (severity) {
    case ORT_LOGGING_LEVEL_VERBOSE: return log(HSRT_LOG_DEBUG, message);
    case ORT_LOGGING_LEVEL_INFO: return log(HSRT_LOG_INFO, message);
    case ORT_LOGGING_LEVEL_WARNING: return log(HSRT_LOG_WARNING, message);
    default: return log(HSRT_LOG_ERROR, message);
  }
}

// Whether the process may take only so many addresses (ulimit -v).
bool has_limited_addresses() {
#ifdef _WIN32
  return false;
#else
  rlimit limit{};
  return getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
#endif
}

// One CPU arena for all sessions. It takes addresses by the gigabyte, of which memory is only what
// has been written to: in regions of the size of one tensor each, a tensor finds no place where two
// smaller ones have been. Where addresses are few, it grows by what is asked for.
void register_shared_arena(OrtEnv* env) {
  const char* keys[] = {"max_mem", "arena_extend_strategy", "initial_chunk_size_bytes",
                        "max_dead_bytes_per_chunk"};
  const size_t by_regions[] = {0, 0, size_t{1} << 30, size_t{1} << 20};
  const size_t as_requested[] = {0, 1};
  const bool few = has_limited_addresses();
  OrtArenaCfg* config = nullptr;
  check_ort(ort_api().CreateArenaCfgV2(keys, few ? as_requested : by_regions, few ? 2 : 4, &config),
            HSRT_ERROR_BACKEND, "ONNX Runtime cannot configure an arena");
  const Owned<OrtArenaCfg> owned_config(config);
  OrtMemoryInfo* info = nullptr;
  check_ort(ort_api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &info),
            HSRT_ERROR_BACKEND, "ONNX Runtime cannot describe the host's memory");
  const Owned<OrtMemoryInfo> owned_info(info);
  // Fails where the host application has registered an arena itself: then that one is shared.
  const Owned<OrtStatus> ignored(ort_api().CreateAndRegisterAllocator(env, info, config));
}

// A number of threads that is given makes ONNX Runtime leave the threads' affinity alone: setting
// it fails in containers, with a line for every thread.
OrtEnv* create_environment(int threads) {
  const char* what = "ONNX Runtime cannot start";
  OrtThreadingOptions* options = nullptr;
  check_ort(ort_api().CreateThreadingOptions(&options), HSRT_ERROR_BACKEND, what);
  const Owned<OrtThreadingOptions> owned(options);
  check_ort(ort_api().SetGlobalIntraOpNumThreads(options, threads), HSRT_ERROR_BACKEND, what);
  check_ort(ort_api().SetGlobalInterOpNumThreads(options, 1), HSRT_ERROR_BACKEND, what);
  check_ort(ort_api().SetGlobalSpinControl(options, 0), HSRT_ERROR_BACKEND, what);
  OrtEnv* env = nullptr;
  check_ort(ort_api().CreateEnvWithCustomLoggerAndGlobalThreadPools(
                forward_log, nullptr, ORT_LOGGING_LEVEL_WARNING, "hyperstyle_rt", options, &env),
            HSRT_ERROR_BACKEND, what);
  return env;
}

GraphOptimizationLevel optimisation_level(hsrt_optimisation optimisation) {
  switch (optimisation) {
    case HSRT_OPTIMISE_NONE: return ORT_DISABLE_ALL;
    case HSRT_OPTIMISE_BASIC: return ORT_ENABLE_BASIC;
    case HSRT_OPTIMISE_EXTENDED: return ORT_ENABLE_EXTENDED;
    default: return ORT_ENABLE_ALL;
  }
}

void append_cuda(OrtSessionOptions* session, const std::string& device) {
  OrtCUDAProviderOptionsV2* cuda = nullptr;
  const char* what = "ONNX Runtime cannot use CUDA here; install the libraries it names";
  check_ort(ort_api().CreateCUDAProviderOptions(&cuda), HSRT_ERROR_BACKEND, what);
  const Owned<OrtCUDAProviderOptionsV2> owned(cuda);
  const char* key = "device_id";
  const char* value = device.c_str();
  check_ort(ort_api().UpdateCUDAProviderOptions(cuda, &key, &value, 1), HSRT_ERROR_BACKEND, what);
  check_ort(ort_api().SessionOptionsAppendExecutionProvider_CUDA_V2(session, cuda),
            HSRT_ERROR_BACKEND, what);
}

void append_tensorrt(OrtSessionOptions* session, const std::string& device) {
  OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
  const char* what = "ONNX Runtime cannot use TensorRT here; install the libraries it names";
  check_ort(ort_api().CreateTensorRTProviderOptions(&tensorrt), HSRT_ERROR_BACKEND, what);
  const Owned<OrtTensorRTProviderOptionsV2> owned(tensorrt);
  const char* key = "device_id";
  const char* value = device.c_str();
  check_ort(ort_api().UpdateTensorRTProviderOptions(tensorrt, &key, &value, 1), HSRT_ERROR_BACKEND,
            what);
  check_ort(ort_api().SessionOptionsAppendExecutionProvider_TensorRT_V2(session, tensorrt),
            HSRT_ERROR_BACKEND, what);
}

// A provider whose libraries cannot be loaded is an error here; see also check_obtained.
void append_provider(OrtSessionOptions* session, const hsrt_model_options& options) {
  const std::string device = std::to_string(options.device);
  if (options.provider == HSRT_PROVIDER_TENSORRT) append_tensorrt(session, device);
  if (options.provider != HSRT_PROVIDER_CPU) append_cuda(session, device);
}

}  // namespace

const OrtApi& ort_api_of(const OrtApiBase& base) {
  const OrtApi* api = base.GetApi(kNeededApi);
  if (api == nullptr) {
    throw Failure(HSRT_ERROR_BACKEND, std::string("ONNX Runtime ") + base.GetVersionString() +
                                          " does not serve API version " +
                                          std::to_string(kNeededApi) +
                                          "; install ONNX Runtime 1.18 or newer");
  }
  return *api;
}

const OrtApi& ort_api() {
  static const OrtApi& api = ort_api_of(*OrtGetApiBase());
  return api;
}

void check_ort(OrtStatus* result, hsrt_status status, std::string_view what) {
  if (result == nullptr) return;
  const Owned<OrtStatus> owned(result);
  std::string words = ort_api().GetErrorMessage(result);
  std::replace(words.begin(), words.end(), '\n', ' ');
  throw Failure(status, std::string(what) + " (" + words.substr(0, kMostWords) + ")");
}

Environment::Environment(int threads) : env_(create_environment(threads)), pool_threads_(threads) {
  check_ort(ort_api().DisableTelemetryEvents(env()), HSRT_ERROR_BACKEND,
            "ONNX Runtime cannot be kept from reporting its use");
  register_shared_arena(env_.get());
}

std::shared_ptr<Environment> Environment::get(int threads) {
  static std::mutex mutex;
  static std::weak_ptr<Environment> current;
  const std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<Environment> environment = current.lock();
  if (!environment) current = environment = std::make_shared<Environment>(threads);
  return environment;
}

template <typename Create>
Owned<OrtSession> Environment::with_threads(const Create& create, OrtSessionOptions* given,
                                            int threads, std::string_view what) {
  // The options are copied: ONNX Runtime can only take a session's own threads away.
  const auto copy_of = [&] {
    OrtSessionOptions* copy = nullptr;
    check_ort(ort_api().CloneSessionOptions(given, &copy), HSRT_ERROR_BUNDLE, what);
    return Owned<OrtSessionOptions>(copy);
  };
  OrtSession* session = nullptr;
  if (has_pool_ && threads == pool_threads_) {
    const Owned<OrtSessionOptions> options = copy_of();
    check_ort(ort_api().DisablePerSessionThreads(options.get()), HSRT_ERROR_BUNDLE, what);
    Owned<OrtStatus> result(create(options.get(), &session));
    if (!result) return Owned<OrtSession>(session);
    const std::string_view words = ort_api().GetErrorMessage(result.get());
    if (words.find(kLacksPool) == words.npos) {
      check_ort(result.release(), HSRT_ERROR_BUNDLE, what);
    }
    has_pool_ = false;
  }
  const Owned<OrtSessionOptions> options = copy_of();
  check_ort(ort_api().SetIntraOpNumThreads(options.get(), threads), HSRT_ERROR_BUNDLE, what);
  check_ort(ort_api().SetInterOpNumThreads(options.get(), 1), HSRT_ERROR_BUNDLE, what);
  check_ort(create(options.get(), &session), HSRT_ERROR_BUNDLE, what);
  return Owned<OrtSession>(session);
}

Owned<OrtSession> Environment::open(std::string_view model, OrtSessionOptions* options, int threads,
                                    std::string_view what) {
  const auto create = [&](OrtSessionOptions* with, OrtSession** session) {
    return ort_api().CreateSessionFromArray(env(), model.data(), model.size(), with, session);
  };
  return with_threads(create, options, threads, what);
}

Owned<OrtSession> Environment::open(const std::filesystem::path& model, OrtSessionOptions* options,
                                    int threads, std::string_view what) {
  const auto create = [&](OrtSessionOptions* with, OrtSession** session) {
    return ort_api().CreateSession(env(), model.c_str(), with, session);
  };
  return with_threads(create, options, threads, what);
}

const char* provider_name(hsrt_provider provider) {
  switch (provider) {
    case HSRT_PROVIDER_CUDA: return "CUDAExecutionProvider";
    case HSRT_PROVIDER_TENSORRT: return "TensorrtExecutionProvider";
    default: return "CPUExecutionProvider";
  }
}

const char* backend_name(hsrt_provider provider) {
  switch (provider) {
    case HSRT_PROVIDER_CUDA: return "cuda";
    case HSRT_PROVIDER_TENSORRT: return "ort-tensorrt";
    default: return "cpu";
  }
}

void check_offered(hsrt_provider provider) {
  char** names = nullptr;
  int count = 0;
  check_ort(ort_api().GetAvailableProviders(&names, &count), HSRT_ERROR_BACKEND,
            "ONNX Runtime cannot list its providers");
  const std::string_view wanted = provider_name(provider);
  const bool offered = std::find(names, names + count, wanted) != names + count;
  check_ort(ort_api().ReleaseAvailableProviders(names, count), HSRT_ERROR_BACKEND,
            "ONNX Runtime cannot list its providers");
  if (offered) return;
  throw Failure(HSRT_ERROR_BACKEND,
                std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
                    " does not offer " + provider_name(provider) +
                    "; load one that is built with it, or use HSRT_PROVIDER_CPU");
}

Owned<OrtSessionOptions> session_options(const hsrt_model_options& options) {
  const char* what = "ONNX Runtime refuses a session option";
  OrtSessionOptions* session = nullptr;
  check_ort(ort_api().CreateSessionOptions(&session), HSRT_ERROR_BACKEND, what);
  Owned<OrtSessionOptions> owned(session);
  check_ort(ort_api().SetSessionLogSeverityLevel(session, ORT_LOGGING_LEVEL_ERROR),
            HSRT_ERROR_BACKEND, what);
  check_ort(ort_api().DisableMemPattern(session), HSRT_ERROR_BACKEND, what);
  check_ort(
      ort_api().SetSessionGraphOptimizationLevel(session, optimisation_level(options.optimisation)),
      HSRT_ERROR_BACKEND, what);
  check_ort(ort_api().AddSessionConfigEntry(session, kOrtSessionOptionsConfigUseEnvAllocators, "1"),
            HSRT_ERROR_BACKEND, what);
  check_ort(
      ort_api().AddSessionConfigEntry(session, kOrtSessionOptionsConfigAllowIntraOpSpinning, "0"),
      HSRT_ERROR_BACKEND, what);
  read_data_from(session, kNoFolder);
  append_provider(session, options);
  return owned;
}

void read_data_from(OrtSessionOptions* options, const std::filesystem::path& folder) {
  check_ort(ort_api().AddSessionConfigEntry(options, kDataFolder, folder.u8string().c_str()),
            HSRT_ERROR_BACKEND, "ONNX Runtime refuses the folder of a bundle");
}

void check_obtained(const OrtSession* session, const OrtMemoryInfo* memory,
                    hsrt_provider provider) {
  const std::string what = std::string("ONNX Runtime did not give the ") + provider_name(provider) +
                           " that was asked for; install the libraries its log names, or use "
                           "HSRT_PROVIDER_CPU";
  OrtAllocator* allocator = nullptr;
  check_ort(ort_api().CreateAllocator(session, memory, &allocator), HSRT_ERROR_BACKEND, what);
  const Owned<OrtAllocator> owned(allocator);
}

OrtAllocator* default_allocator() {
  OrtAllocator* allocator = nullptr;
  check_ort(ort_api().GetAllocatorWithDefaultOptions(&allocator), HSRT_ERROR_BACKEND,
            "ONNX Runtime has no default allocator");
  return allocator;
}

void FreeDefault::operator()(void* memory) const noexcept {
  OrtAllocator* allocator = nullptr;
  const Owned<OrtStatus> result(ort_api().GetAllocatorWithDefaultOptions(&allocator));
  if (!result) allocator->Free(allocator, memory);
}

Owned<OrtMemoryInfo> host_memory() {
  OrtMemoryInfo* info = nullptr;
  check_ort(ort_api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &info),
            HSRT_ERROR_BACKEND, "ONNX Runtime cannot describe the host's memory");
  return Owned<OrtMemoryInfo>(info);
}

Owned<OrtMemoryInfo> device_memory(const hsrt_model_options& options) {
  if (options.provider == HSRT_PROVIDER_CPU) return host_memory();
  OrtMemoryInfo* info = nullptr;
  check_ort(ort_api().CreateMemoryInfo("Cuda", OrtArenaAllocator, options.device, OrtMemTypeDefault,
                                       &info),
            HSRT_ERROR_BACKEND, "ONNX Runtime cannot describe the GPU's memory");
  return Owned<OrtMemoryInfo>(info);
}

}  // namespace hsrt
