#include "manifest.hpp"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "fields.hpp"
#include "sha256.hpp"

namespace hsrt {
namespace {

constexpr const char* kFormat = "hyperstyle-rt-bundle";
constexpr int64_t kVersion = 2;

// Bounds that keep the arrays a manifest asks for small; the official models stay far below.
constexpr int64_t kMaxSide = 4096;
constexpr int64_t kMaxWidth = 65536;
constexpr int64_t kMaxLatents = 4096;
constexpr int64_t kMaxNoiseSide = 4096;
constexpr int64_t kMaxParameters = int64_t{1} << 27;  // numbers of all parameters together
constexpr size_t kMaxAxes = 5;
constexpr double kMaxWeight = 1e6;
constexpr size_t kMaxPhases = 32;

// Refuse other formats first: in another version every other field may differ.
void check_version(const Fields& fields) {
  const Json& format = fields.value("format");
  if (const auto* text = format.as<std::string>(); text == nullptr || *text != kFormat) {
    throw invalid("field format must be " + shown(std::string_view(kFormat)) + ", not " +
                  shown(format) + ": this is no engine bundle");
  }
  const int64_t version = fields.integer("version", 1, kMaxInteger);
  if (version != kVersion) {
    throw Failure(HSRT_ERROR_BUNDLE,
                  "the bundle has format version " + std::to_string(version) +
                      " and this runtime reads version " + std::to_string(kVersion) +
                      "; update hyperstyle-rt or build the bundle again with this version");
  }
}

TunedLayer tuned_layer(const Fields& fields) {
  const std::vector<int64_t> shape = fields.integers("shape", 4, 1, kMaxWidth);
  return {fields.integer("index", 0, kMaxWidth),
          fields.plain_name("name"),
          {shape[0], shape[1], shape[2], shape[3]}};
}

Size size(const Fields& fields, const std::string& key) {
  const auto [height, width] = fields.pair(key, 1, kMaxSide);
  return {static_cast<int>(height), static_cast<int>(width)};
}

int integer(const Fields& fields, const std::string& key, int64_t low, int64_t high) {
  return static_cast<int>(fields.integer(key, low, high));
}

std::string pair_text(int first, int second) {
  return "[" + std::to_string(first) + ", " + std::to_string(second) + "]";
}

void check_geometry(const Manifest& manifest) {
  const int side = manifest.resolution;
  const auto [top, bottom] = manifest.crop_rows;
  if (!(top < bottom && bottom <= side)) {
    throw invalid("field crop_rows must lie within the " + std::to_string(side) +
                  " rows of the image, not " + pair_text(top, bottom));
  }
  const Size image = manifest.image_size;
  if (image.height != bottom - top || image.width != side) {
    throw invalid("field image_size must be " + pair_text(bottom - top, side) +
                  ", as resolution and crop_rows say, not " + pair_text(image.height, image.width));
  }
}

void check_tuned_layers(const Manifest& manifest) {
  std::set<std::string> names;
  Json::Array indices;
  int64_t highest = -1;
  bool ascending = true;
  for (const TunedLayer& layer : manifest.tuned_layers) {
    ascending = ascending && layer.index > highest;
    highest = layer.index;
    indices.push_back({layer.index});
  }
  if (!ascending) {
    throw invalid("field tuned_layers must have ascending indices, not " + shown(Json{indices}));
  }
  for (const TunedLayer& layer : manifest.tuned_layers) {
    if (!names.insert(layer.name).second) {
      throw invalid("field tuned_layers gives two layers one name");
    }
    if (layer.shape[2] != layer.shape[3]) {
      throw invalid("field tuned_layers gives " + layer.name + " the kernel [" +
                    std::to_string(layer.shape[2]) + ", " + std::to_string(layer.shape[3]) +
                    "], which is not square");
    }
  }
  if (manifest.codes && manifest.tuned_layers.empty()) {
    throw invalid("field codes is given although tuned_layers is empty");
  }
}

void check_listed(const std::string& field, const Graphs& graphs, const Manifest& manifest) {
  for (const auto& [role, graph] : graphs) {
    if (manifest.graphs.count(role) == 0) {
      throw invalid("field " + field + "." + role + " is not among the graphs");
    }
    std::vector<std::string> names = graph.data;
    names.insert(names.begin(), graph.file);
    for (const std::string& name : names) {
      if (manifest.files.count(name) != 0) continue;
      throw invalid("field " + field + "." + role + " names " + shown(std::string_view(name)) +
                    ", which is not among the files");
    }
  }
}

void check_graphs(const Manifest& manifest) {
  if (manifest.graphs.count("generator") == 0) throw invalid("lacks the field graphs.generator");
  if (manifest.tuned_layers.empty() != (manifest.graphs.count("weights") == 0)) {
    throw invalid("must give both tuned_layers and the graph weights, or neither");
  }
  check_listed("graphs", manifest.graphs, manifest);
  for (const auto& [precision, graphs] : manifest.precisions) {
    check_listed("precisions." + precision, graphs, manifest);
  }
}

void check_methods(const Manifest& manifest) {
  for (const auto& [name, method] : manifest.methods) {
    for (size_t at = 0; at < method.phases.size(); ++at) {
      const std::string& graph = method.phases[at].graph;
      if (manifest.graphs.count(graph) != 0) continue;
      throw invalid("field methods." + name + ".phases[" + std::to_string(at) + "].graph names " +
                    shown(std::string_view(graph)) + ", which is not among the graphs");
    }
  }
  const std::string& chosen = manifest.default_method;
  if (!manifest.methods.empty() && chosen.empty()) throw invalid("lacks the field default_method");
  if (!chosen.empty() && manifest.methods.count(chosen) == 0) {
    throw invalid("field default_method names " + shown(std::string_view(chosen)) +
                  ", which is not among the methods");
  }
  if (manifest.base && !manifest.methods.empty()) {
    throw invalid("must not give both the field base and methods");
  }
}

template <typename Value>
std::map<std::string, Value> by_name(const Fields& table, Value (*read)(const Fields&)) {
  std::map<std::string, Value> values;
  for (const std::string& name : table.plain_keys()) values[name] = read(table.child(name));
  return values;
}

GraphFile graph_file(const Fields& fields) {
  for (const char* name : {"macs", "bytes_moved"}) {
    if (fields.has(name)) fields.integer(name, 0, kMaxInteger);  // not used here
  }
  return {fields.plain_name("file"), fields.plain_names("data")};
}

BundleFile bundle_file(const Fields& fields) {
  return {fields.digest("sha256"), static_cast<uint64_t>(fields.integer("bytes", 0, kMaxInteger)),
          fields.plain_name("stored")};
}

Graphs graphs_of(const Fields& fields) { return by_name(fields, graph_file); }

Files files_of(const Fields& fields) { return by_name(fields, bundle_file); }

Phase phase(const Fields& fields) {
  Phase phase;
  if (fields.has("repeat")) phase.repeat = integer(fields, "repeat", 1, kMaxIterations);
  phase.graph = fields.plain_name("graph");
  return phase;
}

Method method(const Fields& fields) {
  Method method;
  const std::vector<Fields> phases = fields.children("phases");
  if (phases.empty() || phases.size() > kMaxPhases) {
    throw invalid("field " + fields.path("phases") + " must hold 1 to " +
                  std::to_string(kMaxPhases) + " phases");
  }
  for (const Fields& each : phases) method.phases.push_back(phase(each));
  return method;
}

// An optional object whose values are tables of one kind; absent is empty.
template <typename Table>
std::map<std::string, Table> tables(const Fields& fields, const std::string& key,
                                    Table (*read)(const Fields&)) {
  if (!fields.has(key)) return {};
  return by_name(fields.child(key), read);
}

// What the graphs styled_generator and noise are fed and give: not used here, read to refuse what
// the Python runtime refuses.
void check_optional_inputs(const Fields& fields, const Graphs& graphs) {
  const bool given = fields.has("optional_inputs");
  bool has_noise = false;
  if (given) {
    const Fields inputs = fields.child("optional_inputs");
    for (const Fields& layer : inputs.children("styles")) {
      layer.plain_name("name");
      layer.integer("width", 1, kMaxWidth);
    }
    for (const Fields& layer : inputs.children("noise")) {
      layer.plain_name("name");
      layer.integer("side", 1, kMaxNoiseSide);
      has_noise = true;
    }
  }
  if (given != (graphs.count("styled_generator") != 0)) {
    throw invalid(
        "must give both the field optional_inputs and the graph styled_generator, or neither");
  }
  if (has_noise != (graphs.count("noise") != 0)) {
    throw invalid("must give both noise among the optional_inputs and the graph noise, or neither");
  }
}

// Numbers of the array whose shape a field is.
int64_t checked_size(const Fields& fields, size_t axes) {
  int64_t size = 1;
  for (const int64_t length : fields.integers("shape", axes, 1, kMaxWidth)) {
    size = std::min(size, kMaxParameters + 1) * length;
  }
  return size;
}

// Likewise for what the graphs parametric_generator and parameters are fed and give.
void check_parametric_inputs(const Fields& fields, const Graphs& graphs) {
  const size_t count = graphs.count("parametric_generator") + graphs.count("parameters");
  const bool given = fields.has("parametric_inputs");
  if (given) {
    const Fields inputs = fields.child("parametric_inputs");
    std::set<std::string> names;
    int64_t size = 0;
    for (const Fields& parameter : inputs.children("parameters")) {
      const auto* shape = parameter.value("shape").as<Json::Array>();
      const size_t axes = shape == nullptr ? 0 : shape->size();
      if (axes < 1 || axes > kMaxAxes) {
        throw invalid("field " + parameter.path("shape") + " must be a list of 1 to " +
                      std::to_string(kMaxAxes) + " integers");
      }
      if (!names.insert(parameter.plain_name("name")).second) {
        throw invalid("field " + inputs.path("parameters") + " gives two parameters one name");
      }
      size = std::min(size + checked_size(parameter, axes), kMaxParameters + 1);
    }
    const Fields feature = inputs.child("feature");
    feature.plain_name("layer");
    const std::string limit = " has more than " + std::to_string(kMaxParameters) + " numbers";
    if (size > kMaxParameters) throw invalid("field " + inputs.path("parameters") + limit);
    if (checked_size(feature, 3) > kMaxParameters) {
      throw invalid("field " + feature.path("shape") + limit);
    }
  }
  if (count != (given ? 2 : 0)) {
    throw invalid(
        "must give the field parametric_inputs and the graphs parametric_generator and "
        "parameters, or none of them");
  }
  if (given && !fields.has("optional_inputs")) {
    throw invalid("must not give the field parametric_inputs without optional_inputs");
  }
}

// What the objective graphs compare with; these are not opened here, either.
void check_objective(const Fields& fields) {
  if (!fields.has("objective")) return;
  const Fields objective = fields.child("objective");
  objective.plain_name("perceptual");
  const Json& value = objective.value("weight");
  double weight = 0;
  if (const auto* real = value.as<double>()) weight = *real;
  if (const auto* whole = value.as<uint64_t>()) weight = static_cast<double>(*whole);
  if (weight > 0 && weight <= kMaxWeight) return;
  throw invalid("field " + objective.path("weight") + " must be a number above 0, up to 1e+06, not " +
                shown(value));
}

void read_generator(const Fields& fields, Manifest& manifest) {
  manifest.space = fields.digest("space");
  manifest.resolution = integer(fields, "resolution", 1, kMaxSide);
  manifest.image_size = size(fields, "image_size");
  manifest.input_size = size(fields, "input_size");
  manifest.crop_rows = {0, manifest.resolution};
  if (fields.value("crop_rows").as<std::nullptr_t>() == nullptr) {
    manifest.crop_rows = fields.pair("crop_rows", 0, kMaxSide);
  }
  manifest.num_latents = integer(fields, "num_latents", 1, kMaxLatents);
  manifest.latent_width = integer(fields, "latent_width", 1, kMaxWidth);
  if (fields.has("codes")) {
    const Fields codes = fields.child("codes");
    manifest.codes = CodeLayout{integer(codes, "width", 2, kMaxWidth), codes.digest("space")};
  }
  for (const Fields& layer : fields.children("tuned_layers")) {
    manifest.tuned_layers.push_back(tuned_layer(layer));
  }
}

void read_tables(const Fields& fields, Manifest& manifest) {
  const Fields provenance = fields.child("provenance");
  for (const std::string& key : provenance.keys()) provenance.text(key);
  manifest.graphs = graphs_of(fields.child("graphs"));
  manifest.files = files_of(fields.child("files"));
  fields.child("accuracy");
  if (fields.has("training")) fields.child("training");
  manifest.methods = by_name(fields.child("methods"), method);
  if (fields.has("default_method")) manifest.default_method = fields.plain_name("default_method");
  manifest.precisions = tables(fields, "precisions", graphs_of);
  manifest.plans = tables(fields, "plans", files_of);
  if (fields.has("base")) {
    const Fields base = fields.child("base");
    manifest.base = BaseBundle{base.plain_name("name"), base.digest("space")};
  }
}

}  // namespace

size_t Method::iterating_phase() const {
  for (size_t at = phases.size(); at-- > 0;) {
    if (phases[at].repeat) return at;
  }
  return phases.size();
}

int Method::iterations() const {
  const size_t at = iterating_phase();
  return at == phases.size() ? 0 : *phases[at].repeat;
}

Manifest Manifest::parse(std::string_view text) {
  Json document;
  try {
    document = parse_strict(text);
  } catch (const std::invalid_argument& problem) {
    throw invalid(problem.what());
  }
  const Fields fields(document, "");
  check_version(fields);
  Manifest manifest;
  manifest.name = fields.plain_name("name");
  manifest.domain = fields.text("domain");
  manifest.license = fields.text("license");
  read_generator(fields, manifest);
  read_tables(fields, manifest);
  check_geometry(manifest);
  check_tuned_layers(manifest);
  check_graphs(manifest);
  check_methods(manifest);
  check_optional_inputs(fields, manifest.graphs);
  check_parametric_inputs(fields, manifest.graphs);
  check_objective(fields);
  return manifest;
}

const std::string& Manifest::method_name(const char* wanted) const {
  const auto refused = [](const std::string& sentence) {
    return Failure(HSRT_ERROR_BUNDLE, sentence);
  };
  if (base) {
    throw refused("bundle '" + name + "' only renders what bundle '" + base->name +
                  "' has inverted; invert with a model of that one");
  }
  const auto found = methods.find(wanted == nullptr ? default_method : wanted);
  if (found != methods.end()) return found->first;
  std::string offered;
  for (const auto& item : methods) offered += (offered.empty() ? "" : ", ") + item.first;
  const std::string missing =
      wanted == nullptr ? "no method" : "no method " + shown(std::string_view(wanted));
  throw refused("bundle '" + name + "' has " + missing +
                (offered.empty() ? ": it only renders" : ", only " + offered) +
                "; name one that it has, or another bundle");
}

size_t Manifest::num_channel_offsets() const {
  size_t pairs = 0;
  for (const TunedLayer& layer : tuned_layers) {
    pairs += static_cast<size_t>(layer.shape[0]) * static_cast<size_t>(layer.shape[1]);
  }
  return pairs;
}

std::string Manifest::digest() const {
  // Plain names need no escapes, and std::map keeps keys in the order of their bytes.
  std::string table = "{";
  for (const auto& [file_name, file] : files) {
    table += (table.size() > 1 ? ",\"" : "\"") + file_name +
             "\":{\"bytes\":" + std::to_string(file.size) + ",\"sha256\":\"" + file.sha256 +
             "\",\"stored\":\"" + file.stored + "\"}";
  }
  return sha256(table + "}");
}

}  // namespace hsrt
