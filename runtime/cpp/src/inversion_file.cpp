#include "inversion_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>

#include "failure.hpp"
#include "fields.hpp"
#include "tensors.hpp"

namespace hsrt {
namespace {

constexpr const char* kFormat = "hyperstyle-rt-inversion";
constexpr const char* kVersion = "1";
constexpr const char* kChannelsVersion = "2";  // of a file with free offsets
constexpr uint16_t kHalfExponent = 0x7C00;     // all bits set: infinity or NaN
constexpr size_t kMostDigits = 6;
constexpr int64_t kLargestFloat = 0x7F7FFFFF;  // its bits

Failure refused(const std::string& sentence) { return Failure(HSRT_ERROR_INVERSION, sentence); }

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

void check_bundle_named(const std::string& name, const std::string& digest) {
  if (!is_plain_name(name) || !is_sha256(digest)) {
    throw refused(
        "the inversion does not name the bundle it was made with; invert the picture again");
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

Matrix plus_average(const std::vector<float>& style, const Matrix& average) {
  Matrix latents = average;
  for (size_t at = 0; at < latents.values.size(); ++at) {
    latents.values[at] += style[at % style.size()];
  }
  return latents;
}

Matrix latents_of(const TensorFile& file, const std::string& bundle, const std::string& digest,
                  const LatentAverageOf& average_of) {
  const auto style = file.tensors.find("w");
  if (style == file.tensors.end()) return matrix(file, "latents");
  const Matrix* average = average_of(bundle, digest);
  if (average == nullptr) {
    throw refused("the inversion was made with bundle " + shown(std::string_view(bundle)) + " (" +
                  digest.substr(0, 12) +
                  "), which is not at hand; load it with a model of that bundle, or invert the "
                  "picture again");
  }
  if (file.tensors.count("latents") != 0) throw damaged("holds both w and latents");
  return plus_average(checked_floats("w", style->second, {average->columns}), *average);
}

// The float that stands `rank` places above 0 (below, where it is negative).
float from_rank(int64_t rank) {
  const auto bits = static_cast<uint32_t>(rank < 0 ? -rank + (int64_t{1} << 31) : rank);
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The smallest w with w + average >= latent, as a rank: rounded addition is monotone.
int64_t smallest_rank(float latent, float average) {
  int64_t low = -kLargestFloat;
  int64_t high = kLargestFloat;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (from_rank(middle) + average >= latent) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
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

InversionData interpret(const TensorFile& file, const LatentAverageOf& average_of) {
  const auto format = file.metadata.find("format");
  if (format == file.metadata.end() || format->second != kFormat) {
    throw refused("this is not an inversion file; give one that `invert` wrote");
  }
  const std::string& version = entry(file, "version");
  if (version != kVersion && version != kChannelsVersion) {
    throw refused("the file has format version " + shown(std::string_view(version)) +
                  " and this runtime reads versions 1 and 2; update hyperstyle-rt or invert the "
                  "picture again");
  }
  const std::string& iterations = entry(file, "iterations");
  if (!is_count(iterations)) {
    throw damaged("counts " + shown(std::string_view(iterations)) + " iterations");
  }
  InversionData data;
  data.iterations = std::stoi(iterations);
  data.bundle_name = entry(file, "bundle");
  data.bundle_digest = entry(file, "bundle_digest");
  check_bundle_named(data.bundle_name, data.bundle_digest);  // before it is looked up by it
  data.codes = matrix(file, "codes");
  data.latents = latents_of(file, data.bundle_name, data.bundle_digest, average_of);
  const auto transform = file.tensors.find("transform");
  if (transform != file.tensors.end()) {
    data.transform = checked_floats("transform", transform->second, {3, 3});
  }
  const auto picture = file.metadata.find("picture");
  if (picture != file.metadata.end()) {
    if (!is_sha256(picture->second)) {
      throw refused("the inversion's picture is no SHA-256; invert the picture again");
    }
    data.picture = picture->second;
  }
  if (version == kChannelsVersion) {
    const Tensor& channels = tensor(file, "channels");
    check_shape("channels", channels, "16", {0});
    data.channels = halves_of(channels);
  }
  check_inversion(data);
  return data;
}

}  // namespace

InversionData parse_inversion(std::string_view content, const LatentAverageOf& average_of) {
  TensorFile file;
  try {
    file = parse_tensors(content);
  } catch (const std::invalid_argument& problem) {
    throw refused("the file " + std::string(problem.what()) + "; invert the picture again");
  }
  return interpret(file, average_of);
}

std::string serialize_inversion(const InversionData& data, const Matrix* latent_average) {
  std::map<std::string, Tensor> tensors;
  tensors["codes"] = float_tensor(data.codes.values, {data.codes.rows, data.codes.columns});
  std::optional<std::vector<float>> style;
  if (latent_average != nullptr) style = shared_style(data.latents, *latent_average);
  if (style) {
    tensors["w"] = float_tensor(*style, {style->size()});
  } else {
    tensors["latents"] =
        float_tensor(data.latents.values, {data.latents.rows, data.latents.columns});
  }
  if (!data.transform.empty()) tensors["transform"] = float_tensor(data.transform, {3, 3});
  if (!data.channels.empty()) tensors["channels"] = half_tensor(data.channels);
  std::map<std::string, std::string> metadata = {
      {"format", kFormat},
      {"version", data.channels.empty() ? kVersion : kChannelsVersion},
      {"bundle", data.bundle_name},
      {"bundle_digest", data.bundle_digest},
      {"iterations", std::to_string(data.iterations)}};
  if (!data.picture.empty()) metadata["picture"] = data.picture;
  return serialize_tensors(tensors, metadata);
}

void check_inversion(const InversionData& data) {
  check_finite("latents", data.latents.values);
  check_finite("codes", data.codes.values);
  check_finite("transform", data.transform);
  check_finite("channels", data.channels);
  const Matrix& codes = data.codes;
  for (size_t row = 0; row < codes.rows; ++row) {
    if (codes.values[(row + 1) * codes.columns - 1] != static_cast<float>(data.iterations)) {
      throw refused("the last column of the inversion's codes does not count " +
                    std::to_string(data.iterations) +
                    " iterations, so the codes are damaged; invert the picture again");
    }
  }
}

std::optional<std::vector<float>> shared_style(const Matrix& latents, const Matrix& average) {
  if (latents.rows != average.rows || latents.columns != average.columns) return std::nullopt;
  // If any w solves all rows, it is not below the largest of the rows' smallest; and then that one
  // solves all rows, too.
  std::vector<float> style(latents.columns);
  for (size_t column = 0; column < latents.columns; ++column) {
    int64_t rank = -kLargestFloat;
    for (size_t at = column; at < latents.values.size(); at += latents.columns) {
      rank = std::max(rank, smallest_rank(latents.values[at], average.values[at]));
    }
    style[column] = from_rank(rank);
  }
  const Matrix found = plus_average(style, average);
  const size_t size = found.values.size() * sizeof(float);
  if (std::memcmp(found.values.data(), latents.values.data(), size) != 0) return std::nullopt;
  return style;
}

}  // namespace hsrt
