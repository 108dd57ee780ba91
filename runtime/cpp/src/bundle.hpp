// Engine bundles in a directory or in memory, nothing of which is used unverified; see bundle.py.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "inversion_file.hpp"
#include "manifest.hpp"

namespace hsrt {

// A graph whose files have been verified: in a file, or in memory with its external data.
struct Graph {
  std::filesystem::path path;  // empty: in memory
  std::string_view model;
  std::map<std::string, std::string_view> data;  // by name; none where the graph is in a file
};

class Bundle {
 public:
  // Both throw Failure (HSRT_ERROR_BUNDLE), as all of this class.
  static Bundle open(const std::filesystem::path& directory);
  static Bundle of_memory(std::map<std::string, std::string_view> files);

  const Manifest& manifest() const { return manifest_; }
  const std::string& digest() const { return digest_; }

  // Verify a graph with its external data, in "fp32" or one of the manifest's precisions; optional
  // graphs may have no twins. One thread at a time, like all that verifies.
  Graph verified_graph(const std::string& role, const std::string& precision);

  // Verify a TensorRT plan, which is native code, and the model through which ONNX Runtime loads
  // it. `key` is one of the manifest's plans.
  Graph verified_plan(const std::string& key, const std::string& role);

  // What the encoder adds to what it finds, [L,W]; none if the bundle does not carry it.
  std::optional<Matrix> latent_average();

 private:
  std::filesystem::path directory_;  // empty: in memory
  std::map<std::string, std::string_view> memory_;
  Manifest manifest_;
  std::string digest_;
  std::set<std::string> verified_;

  std::string place(const std::string& name) const;
  bool exists(const std::string& name) const;
  void read_manifest(std::string_view text);
  std::string file_of(const std::string& role, const std::string& precision) const;
  std::vector<std::string> read_with(const std::string& graph) const;
  void verify_listed(const std::string& name);
  void verify_plan_file(const std::string& key, const std::string& name) const;
  void verify_file(const std::string& name, const BundleFile& expected) const;
};

}  // namespace hsrt
