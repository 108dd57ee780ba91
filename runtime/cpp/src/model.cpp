#include "model.hpp"

#include <algorithm>
#include <string_view>

#include "boundary.hpp"
#include "files.hpp"
#include "gpu.hpp"
#include "usable_cpus.hpp"

namespace hsrt {
namespace {

// Side up to which the kernels of zero codes are kept: at 1024 they take 94 MB.
constexpr int kLargestKept = 512;
// The major version that ONNX Runtime's TensorRT provider is linked to.
constexpr std::string_view kLoadedTensorrt = "10.";

constexpr size_t kLargestBatch = 8;       // latents; what the bundles' TensorRT plans are built for
constexpr size_t kBatchPixels = 8 << 16;  // of the generated squares

// ONNX Runtime's CPU provider widens float16 where the processor cannot compute in it.
#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64) || defined(_M_IX86)
constexpr bool kComputesHalvesInFloat = true;
#else
constexpr bool kComputesHalvesInFloat = false;
#endif

constexpr const char* kChannelOffsets = "channel_offsets";  // a graph's role and its input

constexpr const char* kCannotBind = "ONNX Runtime cannot bind a tensor";

// An operator waits for its last thread: with more threads than CPUs, for one that is not running.
int useful_threads(int wanted) {
  const int cpus = usable_cpus();
  return wanted > 0 ? std::min(wanted, cpus) : cpus;
}

std::string cannot_load(const std::string& role) {
  return std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
         " cannot load the graph '" + role + "'; build the bundle again with this version";
}

void add_data(OrtSessionOptions* options, const VerifiedGraph& graph, const std::string& what) {
  std::vector<std::filesystem::path> paths;
  std::vector<char*> buffers;
  std::vector<size_t> lengths;
  for (const auto& [name, content] : graph.data) {
    if (content.bytes.empty()) continue;  // which ONNX Runtime does not take
    paths.push_back(path_of(name.c_str()));
    // Read, though the type says more.
    buffers.push_back(const_cast<char*>(content.bytes.data()));
    lengths.push_back(content.bytes.size());
  }
  if (paths.empty()) return;
  std::vector<const ORTCHAR_T*> names;
  for (const std::filesystem::path& path : paths) names.push_back(path.c_str());
  check_ort(ort_api().AddExternalInitializersFromFilesInMemory(
                options, names.data(), buffers.data(), lengths.data(), names.size()),
            HSRT_ERROR_BUNDLE, what);
}

std::string name_of(OrtStatus* result, char* name, const std::string& what) {
  check_ort(result, HSRT_ERROR_BUNDLE, what);
  const Allocated<char> owned(name);
  return name;
}

TensorSpec spec_of(const OrtTensorTypeAndShapeInfo* info, const std::string& what) {
  TensorSpec spec{ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, {}};
  size_t rank = 0;
  check_ort(ort_api().GetTensorElementType(info, &spec.type), HSRT_ERROR_BUNDLE, what);
  check_ort(ort_api().GetDimensionsCount(info, &rank), HSRT_ERROR_BUNDLE, what);
  spec.shape.resize(rank);
  check_ort(ort_api().GetDimensions(info, spec.shape.data(), rank), HSRT_ERROR_BUNDLE, what);
  return spec;
}

TensorSpec spec_of(const OrtValue* value, const std::string& what) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check_ort(ort_api().GetTensorTypeAndShape(value, &info), HSRT_ERROR_BUNDLE, what);
  const Owned<OrtTensorTypeAndShapeInfo> owned(info);
  return spec_of(info, what);
}

TensorSpec input_spec(const OrtSession* session, size_t at, const std::string& what) {
  OrtTypeInfo* type = nullptr;
  check_ort(ort_api().SessionGetInputTypeInfo(session, at, &type), HSRT_ERROR_BUNDLE, what);
  const Owned<OrtTypeInfo> owned(type);
  const OrtTensorTypeAndShapeInfo* info = nullptr;  // a part of the type
  check_ort(ort_api().CastTypeInfoToTensorInfo(type, &info), HSRT_ERROR_BUNDLE, what);
  if (info == nullptr) throw Failure(HSRT_ERROR_BUNDLE, what + " (an input is no tensor)");
  return spec_of(info, what);
}

Signature signature_of(const OrtSession* session, const std::string& role) {
  const std::string what = cannot_load(role);
  Signature signature;
  size_t count = 0;
  check_ort(ort_api().SessionGetInputCount(session, &count), HSRT_ERROR_BUNDLE, what);
  for (size_t at = 0; at < count; ++at) {
    char* name = nullptr;
    OrtStatus* result = ort_api().SessionGetInputName(session, at, default_allocator(), &name);
    signature.inputs[name_of(result, name, what)] = input_spec(session, at, what);
  }
  check_ort(ort_api().SessionGetOutputCount(session, &count), HSRT_ERROR_BUNDLE, what);
  for (size_t at = 0; at < count; ++at) {
    char* name = nullptr;
    OrtStatus* result = ort_api().SessionGetOutputName(session, at, default_allocator(), &name);
    signature.outputs.push_back(name_of(result, name, what));
  }
  return signature;
}

std::string text_of(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t length : shape) {
    text += (text.empty() ? "" : ", ") + (length < 0 ? "?" : std::to_string(length));
  }
  return "[" + text + "]";
}

// Refuse what a graph does not take before ONNX Runtime sees it.
void check_input(const std::string& role, const std::string& name, const TensorSpec& wanted,
                 const Values& inputs) {
  const auto found = inputs.find(name);
  const std::string reads = "the graph '" + role + "' reads the tensor '" + name + "'";
  if (found == inputs.end() || !found->second) {
    throw Failure(HSRT_ERROR_BUNDLE,
                  reads + ", which no graph before it has given; build the bundle again");
  }
  const TensorSpec given = spec_of(found->second.get(), kCannotBind);
  bool fits = given.type == wanted.type && given.shape.size() == wanted.shape.size();
  for (size_t at = 0; fits && at < wanted.shape.size(); ++at) {
    fits = wanted.shape[at] < 0 || wanted.shape[at] == given.shape[at];
  }
  if (fits) return;
  const std::string problem =
      given.type == wanted.type
          ? " as " + text_of(wanted.shape) + " and is given " + text_of(given.shape)
          : " in another type than it is given";
  throw Failure(HSRT_ERROR_BUNDLE, reads + problem + "; build the bundle again");
}

// What a binding gave, in the order of the names that were bound.
Values bound_outputs(const OrtIoBinding* binding, const std::vector<std::string>& names) {
  std::vector<Owned<OrtValue>> owned(names.size());  // first: nothing may fail with them in hand
  OrtValue** found = nullptr;
  size_t count = 0;
  check_ort(ort_api().GetBoundOutputValues(binding, default_allocator(), &found, &count),
            HSRT_ERROR_BACKEND, kCannotBind);
  const Allocated<OrtValue*> list(found);
  for (size_t at = 0; at < count; ++at) owned.at(at).reset(found[at]);
  Values values;
  for (size_t at = 0; at < count; ++at) values[names[at]] = std::move(owned[at]);
  return values;
}

}  // namespace

Model::Model(Bundle bundle, const hsrt_model_options& options)
    : options_(options), threads_(useful_threads(options.threads)), bundle_(std::move(bundle)) {
  check_offered(options.provider);
  environment_ = Environment::get(threads_);
  host_ = host_memory();
  device_ = device_memory(options);
  provider_ = std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() + " " +
              provider_name(options.provider);
  computed_ = std::string("{\"backend\":\"") + backend_name(options.provider) +
              "\",\"precision\":\"" +
              (kComputesHalvesInFloat && is_host() ? kBasePrecision : precision()) +
              "\",\"provider\":\"" + provider_ + "\"}";
  if (options.provider == HSRT_PROVIDER_TENSORRT) plans_key_ = plans_key();
  opened("generator");
}

size_t Model::batch_size() const {
  if (options_.provider == HSRT_PROVIDER_CPU) return 1;
  const size_t side = static_cast<size_t>(manifest().resolution);
  return std::clamp(kBatchPixels / (side * side), size_t{1}, kLargestBatch);
}

std::string Model::precision() const {
  return options_.precision == HSRT_PRECISION_FP16 ? "fp16" : kBasePrecision;
}

std::string Model::plans_key() const {
  const std::string suffix =
      "-sm" + std::to_string(gpu_architecture(options_.device)) + "-" + precision();
  std::string key = std::string(kLoadedTensorrt) + "x" + suffix;  // what a refusal names
  for (const auto& item : manifest().plans) {
    const std::string_view name = item.first;
    const bool loadable = name.substr(0, kLoadedTensorrt.size()) == kLoadedTensorrt;
    const bool fits =
        name.size() > suffix.size() && name.substr(name.size() - suffix.size()) == suffix;
    if (loadable && fits) key = item.first;
  }
  return key;
}

const Model::Opened& Model::opened(const std::string& role) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = opened_.find(role);
  if (found != opened_.end()) return found->second;
  return opened_.emplace(role, open(role)).first->second;
}

Model::Opened Model::open(const std::string& role) const {
  Opened opened;
  opened.session = open_session(role);
  check_obtained(opened.session.get(), device_.get(), options_.provider);
  opened.signature = signature_of(opened.session.get(), role);
  log(HSRT_LOG_DEBUG, ("opened the graph '" + role + "' on " + provider_).c_str());
  return opened;
}

Owned<OrtSession> Model::open_session(const std::string& role) const {
  const std::string what = cannot_load(role);
  if (!plans_key_.empty()) {
    const Owned<OrtSessionOptions> options = session_options(options_);
    return environment_->open(bundle_.verified_plan(plans_key_, role), options.get(), threads_,
                              what);
  }
  // ONNX Runtime has what it needs when the session is there, so the files are let go then.
  const VerifiedGraph graph = bundle_.verified_graph(role, precision());
  if (Owned<OrtSession> session = open_in_folder(role, graph)) return session;
  const Owned<OrtSessionOptions> options = session_options(options_);
  add_data(options.get(), graph, what);
  return environment_->open(graph.model.bytes, options.get(), threads_, what);
}

// Data that are handed over are copied once more, a gigabyte for `weights` of the official layout.
// So ONNX Runtime reads the files, which are compared with what they were before the verification.
// Nothing, where that cannot be done: behind links, or with an ONNX Runtime that does not know the
// option.
Owned<OrtSession> Model::open_in_folder(const std::string& role, const VerifiedGraph& graph) const {
  if (graph.data.empty() || graph.folder.empty()) return nullptr;
  const Owned<OrtSessionOptions> options = session_options(options_);
  read_data_from(options.get(), graph.folder);
  Owned<OrtSession> session;
  try {
    session = environment_->open(graph.model.bytes, options.get(), threads_, cannot_load(role));
  } catch (const Failure&) {
    return nullptr;  // what is wrong will be said when it is tried otherwise
  }
  if (graph.is_unchanged()) return session;
  throw Failure(HSRT_ERROR_BUNDLE,
                "the data of the graph '" + role +
                    "' were changed while they were opened; wait until nothing writes to the "
                    "bundle, and load it again");
}

Values Model::run(const std::string& role, const Values& inputs,
                  const std::set<std::string>& to_host) const {
  const Opened& graph = opened(role);
  OrtIoBinding* binding = nullptr;
  check_ort(ort_api().CreateIoBinding(graph.session.get(), &binding), HSRT_ERROR_BACKEND,
            kCannotBind);
  const Owned<OrtIoBinding> owned(binding);
  for (const auto& [name, spec] : graph.signature.inputs) {
    check_input(role, name, spec, inputs);
    check_ort(ort_api().BindInput(binding, name.c_str(), inputs.at(name).get()), HSRT_ERROR_BUNDLE,
              kCannotBind);
  }
  for (const std::string& name : graph.signature.outputs) {
    const Owned<OrtMemoryInfo>& memory = to_host.count(name) != 0 ? host_ : device_;
    check_ort(ort_api().BindOutputToDevice(binding, name.c_str(), memory.get()), HSRT_ERROR_BACKEND,
              kCannotBind);
  }
  const std::string what = "ONNX Runtime could not run the graph '" + role +
                           "'; free memory, or build the bundle again with this version";
  check_ort(ort_api().SynchronizeBoundInputs(binding), HSRT_ERROR_BACKEND, what);
  check_ort(ort_api().RunWithBinding(graph.session.get(), nullptr, binding), HSRT_ERROR_BACKEND,
            what);
  check_ort(ort_api().SynchronizeBoundOutputs(binding), HSRT_ERROR_BACKEND, what);
  return bound_outputs(binding, graph.signature.outputs);
}

Values Model::kernels(const std::vector<float>& codes) const {
  if (manifest().tuned_layers.empty()) return {};
  const bool are_base = manifest().resolution <= kLargestKept &&
                        std::all_of(codes.begin(), codes.end(), [](float x) { return x == 0; });
  if (!are_base) return expand(codes);
  const std::lock_guard<std::mutex> lock(base_mutex_);
  if (base_kernels_.empty()) base_kernels_ = expand(codes);
  return base_kernels_;
}

Values Model::kernels(const std::vector<float>& codes,
                      const std::vector<float>& channel_offsets) const {
  if (channel_offsets.empty()) return kernels(codes);
  check_adds_channel_offsets();
  Values tuned = kernels(codes);
  Values base = kernels(zero_codes());
  const std::vector<int64_t> shape = {static_cast<int64_t>(channel_offsets.size())};
  Values inputs = {{kChannelOffsets, wrap(channel_offsets, shape)}};
  for (const TunedLayer& layer : manifest().tuned_layers) {
    inputs["tuned." + layer.name] = tuned["weight." + layer.name];
    inputs["base." + layer.name] = base["weight." + layer.name];
  }
  return run(kChannelOffsets, inputs, {});
}

std::vector<float> Model::zero_codes() const {
  if (!manifest().codes) return {};
  return std::vector<float>(manifest().tuned_layers.size() *
                            static_cast<size_t>(manifest().codes->width));
}

void Model::check_adds_channel_offsets() const {
  if (manifest().graphs.count(kChannelOffsets) == 0) {
    throw Failure(
        HSRT_ERROR_BUNDLE,
        "bundle '" + manifest().name +
            "' has no graph to add channel offsets to its kernels; build it again with this "
            "version");
  }
  const std::string plan = std::string(kChannelOffsets) + ".plan";
  if (!plans_key_.empty() && manifest().plans.at(plans_key_).count(plan) == 0) {
    throw Failure(HSRT_ERROR_BUNDLE, "the TensorRT plans of bundle '" + manifest().name +
                                         "' do not draw inversions with channel offsets; use "
                                         "HSRT_PROVIDER_CUDA for them");
  }
}

// A bundle that knows no codes has kernels as well, if its convolutions can be tuned otherwise.
Values Model::expand(const std::vector<float>& codes) const {
  if (codes.empty()) return run("weights", {}, {});
  return run("weights", {{"codes", wrap(codes, codes_shape(manifest()))}}, {});
}

Value Model::wrap(const std::vector<float>& values, const std::vector<int64_t>& shape) const {
  OrtValue* value = nullptr;
  check_ort(ort_api().CreateTensorWithDataAsOrtValue(
                host_.get(), const_cast<float*>(values.data()), values.size() * sizeof(float),
                shape.data(), shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value),
            HSRT_ERROR_BACKEND, "ONNX Runtime cannot take a tensor");
  return Value(value, Release());
}

std::vector<int64_t> codes_shape(const Manifest& manifest) {
  return {1, static_cast<int64_t>(manifest.tuned_layers.size()), manifest.codes->width};
}

const float* floats_of(const Value& value, const std::string& name,
                       const std::vector<int64_t>& shape) {
  const std::string what = "the graphs of the bundle gave '" + name +
                           "' in another type or shape than the manifest says; build it again";
  if (!value) throw Failure(HSRT_ERROR_BUNDLE, what);
  const TensorSpec found = spec_of(value.get(), what);
  if (found.type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || found.shape != shape) {
    throw Failure(HSRT_ERROR_BUNDLE, what);
  }
  void* data = nullptr;
  check_ort(ort_api().GetTensorMutableData(value.get(), &data), HSRT_ERROR_BUNDLE, what);
  return static_cast<const float*>(data);
}

}  // namespace hsrt
