#include "bundle.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "failure.hpp"
#include "files.hpp"
#include "sha256.hpp"
#include "tensors.hpp"

namespace hsrt {
namespace fs = std::filesystem;
namespace {

constexpr const char* kManifestName = "manifest.json";
constexpr const char* kPlansDirectory = "tensorrt";
constexpr uint64_t kMaxManifestSize = 1 << 20;
constexpr uint64_t kMaxLatentAverageSize = 1 << 24;
constexpr size_t kHashedAtOnce = 1 << 20;

Failure refused(const std::string& sentence) { return Failure(HSRT_ERROR_BUNDLE, sentence); }

// Refuse all but a regular file, links included; give its size.
uint64_t size_of_regular(const fs::path& path) {
  std::error_code error;
  const fs::file_status found = fs::symlink_status(path, error);
  if (!fs::status_known(found) || !fs::exists(found)) {
    throw refused("cannot find " + text_of(path) + " (" + error.message() +
                  "); give the directory of a bundle, or restore it");
  }
  if (fs::is_symlink(found)) {
    throw refused(text_of(path) + " is a symbolic link; put the file itself in the bundle");
  }
  if (!fs::is_regular_file(found)) {
    throw refused(text_of(path) + " is not a regular file; restore the bundle or build it again");
  }
  const uint64_t size = fs::file_size(path, error);
  if (error) throw refused("cannot read " + text_of(path) + ": " + error.message());
  return size;
}

template <typename Value>
std::string keys_of(const std::map<std::string, Value>& table, std::string keys) {
  for (const auto& item : table) keys += (keys.empty() ? "" : ", ") + item.first;
  return keys;
}

std::string sha256_of_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> block(kHashedAtOnce);
  Sha256 hash;
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())), file.gcount() > 0) {
    hash.update(block.data(), static_cast<size_t>(file.gcount()));
  }
  if (!file.eof()) throw refused("cannot read " + text_of(path) + "; check its permissions");
  return hash.finish();
}

}  // namespace

Bundle Bundle::open(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    throw refused("there is no directory " + text_of(directory) +
                  "; give the directory of a bundle");
  }
  Bundle bundle;
  bundle.directory_ = fs::absolute(directory, error);
  if (error) throw refused("cannot find " + text_of(directory) + ": " + error.message());
  const fs::path path = bundle.directory_ / kManifestName;
  size_of_regular(path);
  bundle.read_manifest(read_regular(path, kMaxManifestSize, HSRT_ERROR_BUNDLE));
  return bundle;
}

Bundle Bundle::of_memory(std::map<std::string, std::string_view> files) {
  Bundle bundle;
  bundle.memory_ = std::move(files);
  const auto found = bundle.memory_.find(kManifestName);
  if (found == bundle.memory_.end()) {
    throw refused("there is no manifest.json among the buffers; give all files of the bundle");
  }
  if (found->second.size() > kMaxManifestSize) {
    throw refused("manifest.json is larger than " + std::to_string(kMaxManifestSize) +
                  " bytes, so it is not the kind of file expected");
  }
  bundle.read_manifest(found->second);
  return bundle;
}

void Bundle::read_manifest(std::string_view text) {
  try {
    manifest_ = Manifest::parse(text);
  } catch (const Failure& failure) {
    throw refused(place(kManifestName) + ": " + failure.text());
  }
  digest_ = manifest_.digest();
}

std::string Bundle::file_of(const std::string& role, const std::string& precision) const {
  if (precision != kBasePrecision) {
    const auto twins = manifest_.precisions.find(precision);
    if (twins == manifest_.precisions.end()) {
      throw refused("bundle '" + manifest_.name + "' has no " + precision + " graphs, only " +
                    keys_of(manifest_.precisions, kBasePrecision) +
                    "; use one of these, or build it again with --precision fp32,fp16");
    }
    const auto twin = twins->second.find(role);
    if (twin != twins->second.end()) return twin->second;
  }
  for (const Graphs* graphs : {&manifest_.graphs, &manifest_.refinement}) {
    const auto found = graphs->find(role);
    if (found != graphs->end()) return found->second;
  }
  throw refused("the bundle has no graph '" + role + "'; build it again with this graph");
}

// Files that a graph may read its large tensors from; another's only to refine.
std::vector<std::string> Bundle::read_with(const std::string& graph) const {
  const Graphs& refinement = manifest_.refinement;
  const bool refines = std::any_of(refinement.begin(), refinement.end(),
                                   [&](const auto& item) { return item.second == graph; });
  std::vector<std::string> names;
  for (const auto& item : manifest_.files) {
    const std::string& name = item.first;
    if (refines ? fs::path(name).extension() == kDataSuffix : name == graph + kDataSuffix) {
      names.push_back(name);
    }
  }
  return names;
}

Graph Bundle::verified_graph(const std::string& role, const std::string& precision) {
  const std::string name = file_of(role, precision);
  const std::string data_name = name + kDataSuffix;
  const std::vector<std::string> data = read_with(name);
  for (const std::string& read : data) verify_listed(read);
  if (manifest_.files.count(data_name) == 0 && exists(data_name)) {
    throw refused(place(data_name) +
                  " is not listed in the bundle's manifest; restore the bundle or build it again");
  }
  verify_listed(name);
  if (!directory_.empty()) return {directory_ / name, {}, {}};
  Graph graph{{}, memory_.at(name), {}};
  for (const std::string& read : data) graph.data[read] = memory_.at(read);
  return graph;
}

Graph Bundle::verified_plan(const std::string& key, const std::string& role) {
  if (directory_.empty()) {
    throw refused("TensorRT reads its plans from files; load the bundle with hsrt_model_load");
  }
  verify_plan_file(key, role + ".plan");
  verify_plan_file(key, role + ".onnx");
  return {directory_ / kPlansDirectory / key / (role + ".onnx"), {}, {}};
}

void Bundle::verify_plan_file(const std::string& key, const std::string& name) const {
  const auto plans = manifest_.plans.find(key);
  if (plans == manifest_.plans.end() || plans->second.count(name) == 0) {
    const std::string offered = keys_of(manifest_.plans, "");
    throw refused("bundle '" + manifest_.name + "' has no " + name + " for TensorRT " + key +
                  ", only plans for " + (offered.empty() ? "nothing" : offered) +
                  "; build it again with --tensorrt on this machine");
  }
  const fs::path plans_directory = directory_ / kPlansDirectory;
  for (const fs::path& parent : {plans_directory, plans_directory / key}) {
    std::error_code error;
    if (fs::is_symlink(fs::symlink_status(parent, error))) {
      throw refused(text_of(parent) + " is a symbolic link; put the directory itself there");
    }
  }
  verify_file(std::string(kPlansDirectory) + "/" + key + "/" + name, plans->second.at(name));
}

std::optional<Matrix> Bundle::latent_average() {
  if (manifest_.files.count(kLatentAverageName) == 0) return std::nullopt;
  verify_listed(kLatentAverageName);
  const std::string where = place(kLatentAverageName);
  const std::string content =
      directory_.empty()
          ? std::string(memory_.at(kLatentAverageName))
          : read_regular(directory_ / kLatentAverageName, kMaxLatentAverageSize, HSRT_ERROR_BUNDLE);
  TensorFile file;
  try {
    file = parse_tensors(content);
  } catch (const std::invalid_argument& problem) {
    throw refused(where + " " + problem.what() + "; build the bundle again");
  }
  const auto rows = static_cast<uint64_t>(manifest_.num_latents);
  const auto width = static_cast<uint64_t>(manifest_.style_width);
  const auto found = file.tensors.find("latent_average");
  if (found == file.tensors.end() || found->second.dtype != "F32" ||
      found->second.shape != std::vector<uint64_t>{rows, width}) {
    throw refused(where + " must hold the float32 tensor latent_average of shape [" +
                  std::to_string(rows) + ", " + std::to_string(width) +
                  "]; build the bundle again");
  }
  Matrix average{rows, width, floats_of(found->second)};
  for (const float value : average.values) {
    if (!std::isfinite(value)) {
      throw refused(where + " holds NaN or infinity; build the bundle again");
    }
  }
  return average;
}

std::string Bundle::place(const std::string& name) const {
  return directory_.empty() ? name : text_of(directory_ / name);
}

bool Bundle::exists(const std::string& name) const {
  if (directory_.empty()) return memory_.count(name) != 0;
  std::error_code error;
  return fs::exists(fs::symlink_status(directory_ / name, error));
}

void Bundle::verify_listed(const std::string& name) {
  if (verified_.count(name) != 0) return;
  verify_file(name, manifest_.files.at(name));
  verified_.insert(name);
}

void Bundle::verify_file(const std::string& name, const BundleFile& expected) const {
  const auto buffer = memory_.find(name);
  if (directory_.empty() && buffer == memory_.end()) {
    throw refused("there is no " + name + " among the buffers; give all files of the bundle");
  }
  const uint64_t size =
      directory_.empty() ? buffer->second.size() : size_of_regular(directory_ / name);
  if (size != expected.size) {
    throw refused(place(name) + " has " + std::to_string(size) + " bytes where the manifest says " +
                  std::to_string(expected.size) + "; restore the bundle or build it again");
  }
  const std::string digest =
      directory_.empty() ? sha256(buffer->second) : sha256_of_file(directory_ / name);
  if (digest != expected.sha256) {
    throw refused(place(name) +
                  " is altered, its SHA-256 is not the manifest's; restore the bundle or build it "
                  "again");
  }
}

}  // namespace hsrt
