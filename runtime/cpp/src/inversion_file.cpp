#include "inversion_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <stdexcept>

#include "failure.hpp"
#include "fields.hpp"
#include "manifest.hpp"
#include "tensors.hpp"

namespace hsrt {
namespace {

constexpr const char* kFormat = "hyperstyle-rt-inversion";
constexpr const char* kVersion = "3";
// What a file may need of its reader, beside latents; and what it says of its computation.
const std::vector<std::string> kNeeds = {"codes", "channel_offsets"};
// What only the Python package renders: the graphs for it are not opened here.
const std::vector<std::string> kUnrendered = {"noise", "weights", "features"};
const std::vector<std::string> kComputed = {"backend", "provider", "precision"};
constexpr uint16_t kHalfExponent = 0x7C00;  // all bits set: infinity or NaN
constexpr size_t kMostDigits = 6;
constexpr size_t kMaxLatents = 4096;
constexpr size_t kMaxMetadata = 1 << 16;  // characters of one entry

Failure refused(const std::string& sentence) { return Failure(HSRT_ERROR_INVERSION, sentence); }

Failure wrong(const std::string& problem) {
  return refused("the inversion " + problem + "; invert the picture again");
}

Failure damaged(const std::string& problem) {
  return refused("the file is damaged, it " + problem + "; invert the picture again");
}

const std::string& entry(const TensorFile& file, const std::string& key) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end()) throw damaged("lacks the metadata entry " + key);
  return found->second;
}

bool is_count(const std::string& text) {
  const bool digits = !text.empty() && text.size() <= kMostDigits &&
                      text.find_first_not_of("0123456789") == text.npos;
  return digits && (text == "0" || text[0] != '0');
}

int count(const TensorFile& file, const std::string& key) {
  const std::string& text = entry(file, key);
  if (!is_count(text)) {
    throw damaged("has " + shown(std::string_view(text)) + " as its " + key +
                  ", not a number from 0 to 999999");
  }
  return std::stoi(text);
}

size_t characters(std::string_view utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

Json parsed(const TensorFile& file, const std::string& key) {
  const std::string& text = entry(file, key);
  if (characters(text) > kMaxMetadata) {
    throw damaged("has " + key + " of more than " + std::to_string(kMaxMetadata) + " characters");
  }
  try {
    return parse_strict(text);
  } catch (const std::invalid_argument& problem) {
    throw damaged("has " + key + " that " + problem.what());
  }
}

// The text of an entry that is a JSON object, with the texts of these names in it.
std::string object(const TensorFile& file, const std::string& key,
                   const std::vector<std::string>& names) {
  const Json value = parsed(file, key);
  const auto* fields = value.as<Json::Object>();
  if (fields == nullptr) throw damaged("has " + key + " that are no JSON object");
  for (const std::string& name : names) {
    const auto found = fields->find(name);
    if (found != fields->end() && found->second.as<std::string>() != nullptr) continue;
    std::string all;
    for (const std::string& each : names) all += (all.empty() ? "" : ", ") + each;
    throw wrong("does not say all of " + all + " as texts in its " + key);
  }
  return file.metadata.at(key);
}

// The needs of a file, which must be known here and be what its tensors are.
void check_needs(const TensorFile& file) {
  const Json value = parsed(file, "needs");
  const auto* list = value.as<Json::Array>();
  std::set<std::string> needs;
  for (size_t at = 0; list != nullptr && at < list->size(); ++at) {
    const auto* name = (*list)[at].as<std::string>();
    if (name == nullptr) throw damaged("has needs that are no list of texts");
    if (std::find(kUnrendered.begin(), kUnrendered.end(), *name) != kUnrendered.end()) {
      throw refused("the file needs " + shown(std::string_view(*name)) +
                    ", which the C library does not render; use the Python package for it");
    }
    if (std::find(kNeeds.begin(), kNeeds.end(), *name) == kNeeds.end()) {
      throw refused("the file needs " + shown(std::string_view(*name)) +
                    ", which this version of hyperstyle-rt does not know; update hyperstyle-rt");
    }
    if (!needs.insert(*name).second) throw damaged("lists a need twice");
  }
  if (list == nullptr) throw damaged("has needs that are no list of texts");
  for (const std::string& name : kUnrendered) {
    if (file.tensors.count(name) != 0) {
      throw damaged("does not agree in needs and tensors about " + name);
    }
  }
  for (const std::string& name : kNeeds) {
    if ((file.tensors.count(name) != 0) != (needs.count(name) != 0)) {
      throw damaged("does not agree in needs and tensors about " + name);
    }
  }
}

void check_identities(const InversionData& data) {
  if (!is_sha256(data.space)) throw wrong("has no SHA-256 as its space");
  if (!is_sha256(data.bundle_digest)) throw wrong("has no SHA-256 as its bundle_digest");
  if (!is_plain_name(data.bundle_name)) throw wrong("does not name the bundle it was made with");
  if (!is_plain_name(data.method)) throw wrong("does not name the method it was made with");
  if (data.codes.empty() != data.code_space.empty()) {
    throw wrong("must have both codes and their code_space, or neither");
  }
  if (!data.code_space.empty() && !is_sha256(data.code_space)) {
    throw wrong("has no SHA-256 as its code_space");
  }
  if (!data.picture.empty() && !is_sha256(data.picture)) {
    throw wrong("has no SHA-256 as its picture");
  }
}

bool is_finite(float value) { return std::isfinite(value); }

bool is_finite(uint16_t half) { return (half & kHalfExponent) != kHalfExponent; }

template <typename Number>
void check_finite(const std::string& name, const std::vector<Number>& values) {
  const bool all =
      std::all_of(values.begin(), values.end(), [](Number value) { return is_finite(value); });
  if (!all) {
    throw refused("NaN or infinity in the inversion's " + name + "; invert the picture again");
  }
}

// Refuse all but floats of so many bits, of this rank and no length 0; a wanted length of 0 stands
// for any.
void check_shape(const std::string& name, const Tensor& tensor, const std::string& bits,
                 const std::vector<uint64_t>& wanted) {
  bool fits = tensor.dtype == "F" + bits && tensor.shape.size() == wanted.size();
  for (size_t at = 0; fits && at < wanted.size(); ++at) {
    fits = wanted[at] == 0 ? tensor.shape[at] > 0 : tensor.shape[at] == wanted[at];
  }
  if (fits) return;
  std::string lengths;
  for (const uint64_t length : wanted) {
    lengths += (lengths.empty() ? "" : ", ") + (length == 0 ? "?" : std::to_string(length));
  }
  throw refused("the inversion's " + name + " must be float" + bits + " [" + lengths +
                "]; invert the picture again");
}

std::vector<float> checked_floats(const std::string& name, const Tensor& tensor,
                                  const std::vector<uint64_t>& wanted) {
  check_shape(name, tensor, "32", wanted);
  std::vector<float> values = floats_of(tensor);
  check_finite(name, values);
  return values;
}

const Tensor& tensor(const TensorFile& file, const std::string& name) {
  const auto found = file.tensors.find(name);
  if (found == file.tensors.end()) throw damaged("lacks the tensor " + name);
  return found->second;
}

Matrix matrix(const TensorFile& file, const std::string& name) {
  const Tensor& found = tensor(file, name);
  std::vector<float> values = checked_floats(name, found, {0, 0});
  return {found.shape[0], found.shape[1], std::move(values)};
}

// Latents [L,W], as stored or repeated from one row.
Matrix latents(const TensorFile& file) {
  const auto rows = static_cast<size_t>(count(file, "num_latents"));
  const auto w = file.tensors.find("w");
  if ((w == file.tensors.end()) == (file.tensors.count("latents") == 0)) {
    throw damaged("must hold either w or latents");
  }
  if (w == file.tensors.end()) {
    Matrix stored = matrix(file, "latents");
    if (stored.rows == rows) return stored;
    throw damaged("does not hold the " + std::to_string(rows) + " rows of latents that it counts");
  }
  const std::vector<float> row = checked_floats("w", w->second, {0});
  if (rows == 0 || rows > kMaxLatents || rows * row.size() * sizeof(float) > kMaxInversionFile) {
    throw damaged("counts " + std::to_string(rows) + " rows of latents");
  }
  Matrix repeated{rows, row.size(), {}};
  repeated.values.reserve(rows * row.size());
  for (size_t at = 0; at < rows; ++at) {
    repeated.values.insert(repeated.values.end(), row.begin(), row.end());
  }
  return repeated;
}

// Whether all rows are the same, bit by bit: a latent of W.
bool has_equal_rows(const Matrix& matrix) {
  const size_t size = matrix.columns * sizeof(float);
  for (size_t row = 1; row < matrix.rows; ++row) {
    const float* values = matrix.values.data();
    if (std::memcmp(values, values + row * matrix.columns, size) != 0) return false;
  }
  return true;
}

std::string_view bytes_of(const void* data, size_t size) {
  return {static_cast<const char*>(data), size};
}

Tensor float_tensor(const std::vector<float>& values, std::vector<uint64_t> shape) {
  return {"F32", std::move(shape), bytes_of(values.data(), values.size() * sizeof(float))};
}

Tensor half_tensor(const std::vector<uint16_t>& halves) {
  return {"F16", {halves.size()}, bytes_of(halves.data(), halves.size() * sizeof(uint16_t))};
}

InversionData interpret(const TensorFile& file) {
  const auto format = file.metadata.find("format");
  if (format == file.metadata.end() || format->second != kFormat) {
    throw refused("this is not an inversion file; give one that `invert` wrote");
  }
  const std::string& version = entry(file, "version");
  if (version != kVersion) {
    throw refused("the file has format version " + shown(std::string_view(version)) +
                  " and this runtime reads version " + kVersion +
                  "; update hyperstyle-rt or invert the picture again");
  }
  check_needs(file);
  InversionData data;
  data.latents = latents(file);
  data.iterations = count(file, "iterations");
  data.space = entry(file, "space");
  if (file.tensors.count("codes") != 0) {
    data.codes = matrix(file, "codes");
    data.code_space = entry(file, "code_space");
  }
  data.bundle_name = entry(file, "bundle");
  data.bundle_digest = entry(file, "bundle_digest");
  data.method = entry(file, "method");
  data.settings = object(file, "settings", {});
  data.computed = object(file, "computed", kComputed);
  const auto transform = file.tensors.find("transform");
  if (transform != file.tensors.end()) {
    data.transform = checked_floats("transform", transform->second, {3, 3});
  }
  const auto picture = file.metadata.find("picture");
  if (picture != file.metadata.end()) {
    if (picture->second.empty()) throw wrong("has no SHA-256 as its picture");
    data.picture = picture->second;
  }
  const auto offsets = file.tensors.find("channel_offsets");
  if (offsets != file.tensors.end()) {
    check_shape("channel_offsets", offsets->second, "16", {0});
    data.channel_offsets = halves_of(offsets->second);
  }
  check_inversion(data);
  return data;
}

void check_spaces(const InversionData& data, const Manifest& manifest) {
  const std::string made_with = "the inversion was made with bundle '" + data.bundle_name + "'";
  const std::string& name = manifest.name;
  if (data.space != manifest.inversion_space()) {
    const auto& base = manifest.base;
    const std::string renders =
        base ? ", which renders inversions of bundle '" + base->name + "'" : "";
    throw refused(made_with + " (space " + data.space.substr(0, 12) +
                  ") and does not fit bundle '" + name + "'" + renders + " (space " +
                  manifest.inversion_space().substr(0, 12) +
                  "); name its own bundle, or invert the picture with bundle '" +
                  (base ? base->name : name) + "'");
  }
  const std::string cure = "; name a bundle that was built from the same hypernetwork";
  if (!data.codes.empty() && !manifest.codes) {
    throw refused(made_with + " and needs codes, which bundle '" + name + "' does not know" + cure);
  }
  if (!data.codes.empty() && data.code_space != manifest.codes->space) {
    throw refused(made_with + " and its codes (code space " + data.code_space.substr(0, 12) +
                  ") are not those of bundle '" + name + "' (" +
                  manifest.codes->space.substr(0, 12) + ")" + cure);
  }
}

}  // namespace

InversionData parse_inversion(std::string_view content) {
  TensorFile file;
  try {
    file = parse_tensors(content);
  } catch (const std::invalid_argument& problem) {
    throw refused("the file " + std::string(problem.what()) + "; invert the picture again");
  }
  return interpret(file);
}

std::string serialize_inversion(const InversionData& data) {
  const Matrix& latents = data.latents;
  std::map<std::string, std::string> metadata = {{"format", kFormat},
                                                 {"version", kVersion},
                                                 {"space", data.space},
                                                 {"num_latents", std::to_string(latents.rows)},
                                                 {"bundle", data.bundle_name},
                                                 {"bundle_digest", data.bundle_digest},
                                                 {"method", data.method},
                                                 {"settings", data.settings},
                                                 {"iterations", std::to_string(data.iterations)},
                                                 {"computed", data.computed}};
  if (!data.picture.empty()) metadata["picture"] = data.picture;
  std::map<std::string, Tensor> tensors;
  const std::vector<float> row(latents.values.begin(),
                               latents.values.begin() + static_cast<ptrdiff_t>(latents.columns));
  if (has_equal_rows(latents)) {
    tensors["w"] = float_tensor(row, {row.size()});
  } else {
    tensors["latents"] = float_tensor(latents.values, {latents.rows, latents.columns});
  }
  std::string needs;
  if (!data.codes.empty()) {
    needs = "\"codes\"";
    metadata["code_space"] = data.code_space;
    tensors["codes"] = float_tensor(data.codes.values, {data.codes.rows, data.codes.columns});
  }
  if (!data.channel_offsets.empty()) {
    needs += (needs.empty() ? "" : ",") + std::string("\"channel_offsets\"");
    tensors["channel_offsets"] = half_tensor(data.channel_offsets);
  }
  metadata["needs"] = "[" + needs + "]";
  if (!data.transform.empty()) tensors["transform"] = float_tensor(data.transform, {3, 3});
  return serialize_tensors(tensors, metadata);
}

void check_inversion(const InversionData& data) {
  if (data.latents.rows > kMaxLatents) {
    throw wrong("has " + std::to_string(data.latents.rows) + " rows of latents, more than " +
                std::to_string(kMaxLatents));
  }
  check_finite("latents", data.latents.values);
  check_finite("codes", data.codes.values);
  check_finite("channel_offsets", data.channel_offsets);
  check_finite("transform", data.transform);
  check_identities(data);
}

void check_fits(const InversionData& data, const Manifest& manifest) {
  check_spaces(data, manifest);
  const auto check = [&](const char* name, const std::string& found, const std::string& wanted) {
    if (found == wanted) return;
    throw refused("the inversion of bundle '" + data.bundle_name + "' has " + name + " of shape [" +
                  found + "] where bundle '" + manifest.name + "' has [" + wanted +
                  "], so it is damaged; invert the picture again");
  };
  const auto pair = [](size_t rows, size_t columns) {
    return std::to_string(rows) + ", " + std::to_string(columns);
  };
  if (!data.codes.empty()) {
    check("codes", pair(data.codes.rows, data.codes.columns),
          pair(manifest.tuned_layers.size(), static_cast<size_t>(manifest.codes->width)));
  }
  check(
      "latents", pair(data.latents.rows, data.latents.columns),
      pair(static_cast<size_t>(manifest.num_latents), static_cast<size_t>(manifest.latent_width)));
  if (!data.channel_offsets.empty()) {
    check("channel_offsets", std::to_string(data.channel_offsets.size()),
          std::to_string(manifest.num_channel_offsets()));
  }
}

}  // namespace hsrt
