#include "manifest.hpp"

#include <set>
#include <stdexcept>

#include "fields.hpp"
#include "sha256.hpp"

namespace hsrt {
namespace {

constexpr const char* kFormat = "hyperstyle-rt-bundle";
constexpr int64_t kVersion = 1;
constexpr const char* kMethod = "hyperstyle";
const std::vector<std::string> kRequiredRoles = {"encoder", "hypernet", "weights", "generator"};
const std::vector<std::string> kAdaptedRoles = {"weights", "generator"};  // with a base

// Bounds that keep the arrays a manifest asks for small; the official models stay far below.
constexpr int64_t kMaxSide = 4096;
constexpr int64_t kMaxWidth = 65536;
constexpr int64_t kMaxNoiseSide = 4096;

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
  const std::string method = fields.text("method");
  if (method != kMethod) {
    throw Failure(HSRT_ERROR_BUNDLE,
                  "the bundle's method is " + shown(std::string_view(method)) +
                      " and this runtime knows 'hyperstyle' only; update hyperstyle-rt or use "
                      "another bundle");
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

int log2_of(int power_of_two) {
  int exponent = 0;
  while ((1 << exponent) < power_of_two) ++exponent;
  return exponent;
}

std::string pair_text(int first, int second) {
  return "[" + std::to_string(first) + ", " + std::to_string(second) + "]";
}

void check_geometry(const Manifest& manifest) {
  const int side = manifest.resolution;
  if ((side & (side - 1)) != 0) {
    throw invalid("field resolution must be a power of two, not " + std::to_string(side));
  }
  const int rows = 2 * log2_of(side) - 2;
  if (manifest.num_latents != rows) {
    throw invalid("field num_latents must be " + std::to_string(rows) + " at resolution " +
                  std::to_string(side) + ", not " + std::to_string(manifest.num_latents));
  }
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
  if (manifest.tuned_layers.empty()) throw invalid("field tuned_layers is empty");
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
  const int layers = 3 * log2_of(manifest.resolution) - 4;
  if (highest >= layers) {
    throw invalid("field tuned_layers names the index " + std::to_string(highest) +
                  ", but a generator of resolution " + std::to_string(manifest.resolution) +
                  " has the layers 0 to " + std::to_string(layers - 1));
  }
  for (const TunedLayer& layer : manifest.tuned_layers) {
    if (!names.insert(layer.name).second) {
      throw invalid("field tuned_layers gives two layers one name");
    }
    if (layer.shape[2] != layer.shape[3]) {
      throw invalid("field tuned_layers gives " + layer.name + " a kernel which is not square");
    }
  }
}

void check_listed(const std::string& field, const Graphs& graphs, const Files& files) {
  for (const auto& [role, name] : graphs) {
    if (files.count(name) == 0) {
      throw invalid("field " + field + "." + role + " names " + shown(std::string_view(name)) +
                    ", which is not among the files");
    }
  }
}

void check_graphs(const Manifest& manifest, const std::string& field, const Graphs& graphs) {
  for (const std::string& role : manifest.base ? kAdaptedRoles : kRequiredRoles) {
    if (graphs.count(role) == 0) throw invalid("lacks the field " + field + "." + role);
  }
  check_listed(field, graphs, manifest.files);
}

Graphs graphs_of(const Fields& fields) {
  Graphs graphs;
  for (const std::string& role : fields.plain_keys()) graphs[role] = fields.plain_name(role);
  return graphs;
}

Files files_of(const Fields& fields) {
  Files files;
  for (const std::string& name : fields.plain_keys()) {
    const Fields file = fields.child(name);
    files[name] = {file.digest("sha256"),
                   static_cast<uint64_t>(file.integer("bytes", 0, kMaxInteger)),
                   file.plain_name("precision")};
  }
  return files;
}

// An optional object whose values are objects of one kind; absent is empty.
template <typename Table>
std::map<std::string, Table> by_key(const Fields& fields, const std::string& key,
                                    Table (*read)(const Fields&)) {
  std::map<std::string, Table> tables;
  if (!fields.has(key)) return tables;
  const Fields table = fields.child(key);
  for (const std::string& name : table.plain_keys()) tables[name] = read(table.child(name));
  return tables;
}

// What the generator can be fed beside latents and weights: not used here, read to refuse what the
// Python runtime refuses.
void check_optional_inputs(const Fields& fields) {
  for (const Fields& layer : fields.children("styles")) {
    layer.plain_name("name");
    layer.integer("width", 1, kMaxWidth);
  }
  for (const Fields& layer : fields.children("noise")) {
    layer.plain_name("name");
    layer.integer("side", 1, kMaxNoiseSide);
  }
}

void read_tables(const Fields& fields, Manifest& manifest) {
  const Fields provenance = fields.child("provenance");
  for (const std::string& key : provenance.keys()) provenance.text(key);
  for (const Fields& layer : fields.children("tuned_layers")) {
    manifest.tuned_layers.push_back(tuned_layer(layer));
  }
  manifest.graphs = graphs_of(fields.child("graphs"));
  manifest.files = files_of(fields.child("files"));
  fields.child("accuracy");
  if (fields.has("training")) fields.child("training");
  manifest.precisions = by_key(fields, "precisions", graphs_of);
  manifest.plans = by_key(fields, "plans", files_of);
  if (fields.has("base")) {
    const Fields base = fields.child("base");
    manifest.base = BaseBundle{base.plain_name("name"), base.digest("digest")};
  }
  if (fields.has("refinement")) manifest.refinement = graphs_of(fields.child("refinement"));
  if (fields.has("optional_inputs")) check_optional_inputs(fields.child("optional_inputs"));
}

}  // namespace

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
  manifest.resolution = integer(fields, "resolution", 8, kMaxSide);
  manifest.image_size = size(fields, "image_size");
  manifest.input_size = size(fields, "input_size");
  manifest.crop_rows = {0, manifest.resolution};
  if (fields.value("crop_rows").as<std::nullptr_t>() == nullptr) {
    manifest.crop_rows = fields.pair("crop_rows", 0, kMaxSide);
  }
  manifest.num_latents = integer(fields, "num_latents", 1, kMaxWidth);
  manifest.style_width = integer(fields, "style_width", 1, kMaxWidth);
  manifest.code_width = integer(fields, "code_width", 1, kMaxWidth);
  manifest.default_iterations = integer(fields, "default_iterations", 1, kMaxIterations);
  read_tables(fields, manifest);
  check_geometry(manifest);
  check_tuned_layers(manifest);
  check_graphs(manifest, "graphs", manifest.graphs);
  for (const auto& [precision, graphs] : manifest.precisions) {
    check_graphs(manifest, "precisions." + precision, graphs);
  }
  check_listed("refinement", manifest.refinement, manifest.files);
  return manifest;
}

std::string Manifest::digest() const {
  std::set<std::string> defining = {kLatentAverageName};
  for (const auto& item : graphs) {
    defining.insert(item.second);
    defining.insert(item.second + kDataSuffix);
  }
  // Plain names need no escapes, and std::map keeps keys in the order of their bytes.
  std::string table = "{";
  for (const auto& [file_name, file] : files) {
    if (defining.count(file_name) == 0) continue;
    table += (table.size() > 1 ? ",\"" : "\"") + file_name +
             "\":{\"bytes\":" + std::to_string(file.size) + ",\"precision\":\"" + file.precision +
             "\",\"sha256\":\"" + file.sha256 + "\"}";
  }
  return sha256(table + "}");
}

}  // namespace hsrt
