#include "model.hpp"

#include <algorithm>
#include <string_view>

#include "boundary.hpp"
#include "files.hpp"
#include "gpu.hpp"

namespace hsrt {
namespace {

// Side up to which the base weights, 94 MB, are kept: above, memory is what is short.
constexpr int kLargestKept = 512;
// The major version that ONNX Runtime's TensorRT provider is linked to.
constexpr std::string_view kLoadedTensorrt = "10.";

constexpr size_t kLargestBatch = 8;       // latents; what the bundles' TensorRT plans are built for
constexpr size_t kBatchPixels = 8 << 16;  // of the generated squares

constexpr const char* kCannotBind = "ONNX Runtime cannot bind a tensor";

std::string cannot_load(const std::string& role) {
  return std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
         " cannot load the graph '" + role + "'; build the bundle again with this version";
}

void add_data(OrtSessionOptions* options, const Graph& graph, const std::string& what) {
  if (graph.data.empty()) return;
  std::vector<std::filesystem::path> paths;
  std::vector<char*> buffers;
  std::vector<size_t> lengths;
  for (const auto& [name, content] : graph.data) {
    paths.push_back(path_of(name.c_str()));
    buffers.push_back(const_cast<char*>(content.data()));  // read, though the type says more
    lengths.push_back(content.size());
  }
  std::vector<const ORTCHAR_T*> names;
  for (const std::filesystem::path& path : paths) names.push_back(path.c_str());
  check_ort(ort_api().AddExternalInitializersFromFilesInMemory(
                options, names.data(), buffers.data(), lengths.data(), names.size()),
            HSRT_ERROR_BUNDLE, what);
}

Owned<OrtSession> open_session(OrtEnv* env, const Graph& graph, const std::string& role,
                               OrtSessionOptions* options) {
  const std::string what = cannot_load(role);
  OrtSession* session = nullptr;
  if (!graph.path.empty()) {
    check_ort(ort_api().CreateSession(env, graph.path.c_str(), options, &session),
              HSRT_ERROR_BUNDLE, what);
    return Owned<OrtSession>(session);
  }
  add_data(options, graph, what);
  check_ort(ort_api().CreateSessionFromArray(env, graph.model.data(), graph.model.size(), options,
                                             &session),
            HSRT_ERROR_BUNDLE, what);
  return Owned<OrtSession>(session);
}

std::vector<std::string> output_names(const OrtSession* session, const std::string& role) {
  const std::string what = cannot_load(role);
  size_t count = 0;
  check_ort(ort_api().SessionGetOutputCount(session, &count), HSRT_ERROR_BUNDLE, what);
  std::vector<std::string> names;
  for (size_t at = 0; at < count; ++at) {
    char* name = nullptr;
    check_ort(ort_api().SessionGetOutputName(session, at, default_allocator(), &name),
              HSRT_ERROR_BUNDLE, what);
    const Allocated<char> owned(name);
    names.emplace_back(name);
  }
  return names;
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
    : options_(options), bundle_(std::move(bundle)) {
  average_ = bundle_.latent_average();
  check_offered(options.provider);
  environment_ = environment();
  host_ = host_memory();
  device_ = device_memory(options);
  provider_ = std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() + " " +
              provider_name(options.provider);
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
  const Graph graph = plans_key_.empty() ? bundle_.verified_graph(role, precision())
                                         : bundle_.verified_plan(plans_key_, role);
  const Owned<OrtSessionOptions> options = session_options(options_);
  Opened opened;
  opened.session = open_session(environment_.get(), graph, role, options.get());
  check_obtained(opened.session.get(), device_.get(), options_.provider);
  opened.outputs = output_names(opened.session.get(), role);
  log(HSRT_LOG_DEBUG, ("opened the graph '" + role + "' on " + provider_).c_str());
  return opened;
}

Values Model::run(const std::string& role, const Values& inputs,
                  const std::set<std::string>& to_host) const {
  const Opened& graph = opened(role);
  OrtIoBinding* binding = nullptr;
  check_ort(ort_api().CreateIoBinding(graph.session.get(), &binding), HSRT_ERROR_BACKEND,
            kCannotBind);
  const Owned<OrtIoBinding> owned(binding);
  for (const auto& [name, value] : inputs) {
    if (!value)
      throw Failure(HSRT_ERROR_BUNDLE,
                    "no graph of the bundle gives '" + name + "'; build it again");
    check_ort(ort_api().BindInput(binding, name.c_str(), value.get()), HSRT_ERROR_BUNDLE,
              kCannotBind);
  }
  for (const std::string& name : graph.outputs) {
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
  return bound_outputs(binding, graph.outputs);
}

Values Model::weights(const std::vector<float>& codes) const {
  const bool are_base = manifest().resolution <= kLargestKept &&
                        std::all_of(codes.begin(), codes.end(), [](float x) { return x == 0; });
  if (!are_base) return expand(codes);
  const std::lock_guard<std::mutex> lock(base_mutex_);
  if (base_weights_.empty()) base_weights_ = expand(codes);
  return base_weights_;
}

Values Model::weights(const std::vector<float>& codes, const std::vector<float>& channels) const {
  if (channels.empty()) return weights(codes);
  check_renders_refined();
  Values tuned = weights(codes);
  Values base = weights(std::vector<float>(codes.size()));
  Values inputs = {{"channels", wrap(channels, {static_cast<int64_t>(channels.size())})}};
  for (const TunedLayer& layer : manifest().tuned_layers) {
    inputs["tuned." + layer.name] = tuned["weight." + layer.name];
    inputs["base." + layer.name] = base["weight." + layer.name];
  }
  return run("channels", inputs, {});
}

void Model::check_renders_refined() const {
  if (manifest().refinement.empty()) {
    throw Failure(HSRT_ERROR_BUNDLE,
                  "bundle '" + manifest().name +
                      "' has no graphs to refine inversions or to render refined ones; build it "
                      "again with this version");
  }
  if (!plans_key_.empty() && manifest().plans.at(plans_key_).count("channels.plan") == 0) {
    throw Failure(HSRT_ERROR_BUNDLE, "the TensorRT plans of bundle '" + manifest().name +
                                         "' do not render refined inversions; use "
                                         "HSRT_PROVIDER_CUDA for them");
  }
}

Values Model::expand(const std::vector<float>& codes) const {
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
  return {1, static_cast<int64_t>(manifest.tuned_layers.size()), manifest.code_width + 1};
}

const float* floats_of(const Value& value, const std::string& name,
                       const std::vector<int64_t>& shape) {
  const std::string what = "the graphs of the bundle gave '" + name +
                           "' in another type or shape than the manifest says; build it again";
  if (!value) throw Failure(HSRT_ERROR_BUNDLE, what);
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check_ort(ort_api().GetTensorTypeAndShape(value.get(), &info), HSRT_ERROR_BUNDLE, what);
  const Owned<OrtTensorTypeAndShapeInfo> owned(info);
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  size_t rank = 0;
  check_ort(ort_api().GetTensorElementType(info, &type), HSRT_ERROR_BUNDLE, what);
  check_ort(ort_api().GetDimensionsCount(info, &rank), HSRT_ERROR_BUNDLE, what);
  std::vector<int64_t> found(rank);
  check_ort(ort_api().GetDimensions(info, found.data(), rank), HSRT_ERROR_BUNDLE, what);
  if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || found != shape) {
    throw Failure(HSRT_ERROR_BUNDLE, what);
  }
  void* data = nullptr;
  check_ort(ort_api().GetTensorMutableData(value.get(), &data), HSRT_ERROR_BUNDLE, what);
  return static_cast<const float*>(data);
}

}  // namespace hsrt
