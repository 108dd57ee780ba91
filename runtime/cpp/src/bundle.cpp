#include "bundle.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <system_error>

#include "failure.hpp"
#include "sha256.hpp"
#include "tensors.hpp"

namespace hsrt {
namespace fs = std::filesystem;
namespace {

constexpr const char* kManifestName = "manifest.json";
constexpr const char* kPlansDirectory = "tensorrt";
constexpr uint64_t kMaxManifestSize = 1 << 20;

Failure refused(const std::string& sentence) { return Failure(HSRT_ERROR_BUNDLE, sentence); }

template <typename Value>
std::string keys_of(const std::map<std::string, Value>& table, std::string keys) {
  for (const auto& item : table) keys += (keys.empty() ? "" : ", ") + item.first;
  return keys;
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

const GraphFile& Bundle::file_of(const std::string& role, const std::string& precision) const {
  if (precision != kBasePrecision) {
    const auto graphs = manifest_.precisions.find(precision);
    if (graphs == manifest_.precisions.end()) {
      throw refused("bundle '" + manifest_.name + "' has no " + precision + " graphs, only " +
                    keys_of(manifest_.precisions, kBasePrecision) +
                    "; use one of these, or build it again with --precision fp32,fp16");
    }
    const auto found = graphs->second.find(role);
    if (found != graphs->second.end()) return found->second;
  }
  const auto found = manifest_.graphs.find(role);
  if (found != manifest_.graphs.end()) return found->second;
  throw refused("bundle '" + manifest_.name + "' has no graph '" + role +
                "'; build it again with this graph");
}

VerifiedGraph Bundle::verified_graph(const std::string& role, const std::string& precision) const {
  const GraphFile& file = file_of(role, precision);
  VerifiedGraph graph;
  graph.model = verified(file.file).content;
  graph.folder = directory_;
  for (const std::string& name : file.data) {
    Verified data = verified(name);
    graph.data[name] = std::move(data.content);
    if (data.identity) graph.identities[directory_ / name] = *data.identity;
  }
  if (graph.identities.size() < graph.data.size() || !graph.is_unchanged()) graph.folder.clear();
  return graph;
}

bool VerifiedGraph::is_unchanged() const {
  return std::all_of(identities.begin(), identities.end(),
                     [](const auto& item) { return identity_of(item.first) == item.second; });
}

fs::path Bundle::verified_plan(const std::string& key, const std::string& role) const {
  if (directory_.empty()) {
    throw refused("TensorRT reads its plans from files; load the bundle with hsrt_model_load");
  }
  verify_plan_file(key, role + ".plan");
  verify_plan_file(key, role + ".onnx");
  return directory_ / kPlansDirectory / key / (role + ".onnx");
}

void Bundle::verify_plan_file(const std::string& key, const std::string& name) const {
  const auto plans = manifest_.plans.find(key);
  if (plans == manifest_.plans.end() || plans->second.count(name) == 0) {
    const std::string offered = keys_of(manifest_.plans, "");
    throw refused("bundle '" + manifest_.name + "' has no " + name + " for TensorRT " + key +
                  ", only plans for " + (offered.empty() ? "nothing" : offered) +
                  "; build it again with --tensorrt on this machine");
  }
  verified(std::string(kPlansDirectory) + "/" + key + "/" + name, plans->second.at(name));
}

std::optional<Matrix> Bundle::latent_average() const {
  if (manifest_.files.count(kLatentAverageName) == 0) return std::nullopt;
  const Content content = verified(kLatentAverageName).content;
  const std::string where = place(kLatentAverageName);
  TensorFile file;
  try {
    file = parse_tensors(content.bytes);
  } catch (const std::invalid_argument& problem) {
    throw refused(where + " " + problem.what() + "; build the bundle again");
  }
  const auto rows = static_cast<uint64_t>(manifest_.num_latents);
  const auto width = static_cast<uint64_t>(manifest_.latent_width);
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

Bundle::Verified Bundle::verified(const std::string& name) const {
  return verified(name, manifest_.files.at(name));
}

Bundle::Verified Bundle::verified(const std::string& name, const BundleFile& expected) const {
  const auto check_size = [&](uint64_t size) {
    if (size == expected.size) return;
    throw refused(place(name) + " has " + std::to_string(size) + " bytes where the manifest says " +
                  std::to_string(expected.size) + "; restore the bundle or build it again");
  };
  Verified found;
  if (directory_.empty()) {
    const auto buffer = memory_.find(name);
    if (buffer == memory_.end()) {
      throw refused("there is no " + name + " among the buffers; give all files of the bundle");
    }
    check_size(buffer->second.size());
    found.content.bytes = buffer->second;
  } else {
    const OpenFile file(directory_ / name, HSRT_ERROR_BUNDLE);
    check_size(file.size());
    found = {file.map(), file.identity()};
  }
  if (sha256(found.content.bytes) != expected.sha256) {
    throw refused(place(name) +
                  " is altered, its SHA-256 is not the manifest's; restore the bundle or build it "
                  "again");
  }
  return found;
}

}  // namespace hsrt
