// Engine bundles in a directory or in memory, nothing of which is used unverified, as
// formats/bundle.py.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "files.hpp"
#include "inversion_file.hpp"
#include "manifest.hpp"

namespace hsrt {

// A graph whose files have been verified: its model, and by name the files it reads tensors from.
struct VerifiedGraph {
  Content model;
  std::map<std::string, Content> data;

  // Where the data can be read by their paths as well, and what they were when they were verified;
  // empty if they cannot be told from others, as behind links.
  std::filesystem::path folder;
  std::map<std::filesystem::path, FileIdentity> identities;

  // Whether all of them have stayed what they were.
  bool is_unchanged() const;
};

class Bundle {
 public:
  // Both throw Failure (HSRT_ERROR_BUNDLE), as all of this class. A directory is made absolute at
  // once; its files are opened when they are needed.
  static Bundle open(const std::filesystem::path& directory);
  static Bundle of_memory(std::map<std::string, std::string_view> files);

  const Manifest& manifest() const { return manifest_; }
  const std::string& digest() const { return digest_; }

  // Read a graph and what it reads tensors from, in "fp32" or one of the manifest's precisions, in
  // which optional graphs need not be.
  VerifiedGraph verified_graph(const std::string& role, const std::string& precision) const;

  // Verify a TensorRT plan, which is native code, and the model through which ONNX Runtime loads
  // it; give the model's path, for ONNX Runtime looks for the plan beside it. `key` is one of the
  // manifest's plans.
  std::filesystem::path verified_plan(const std::string& key, const std::string& role) const;

  // What latents start as, [L,W]; none if the bundle does not carry it.
  std::optional<Matrix> latent_average() const;

 private:
  std::filesystem::path directory_;  // empty: in memory
  std::map<std::string, std::string_view> memory_;
  Manifest manifest_;
  std::string digest_;

  std::string place(const std::string& name) const;
  void read_manifest(std::string_view text);
  const GraphFile& file_of(const std::string& role, const std::string& precision) const;
  struct Verified {
    Content content;
    std::optional<FileIdentity> identity;
  };

  Verified verified(const std::string& name) const;
  Verified verified(const std::string& name, const BundleFile& expected) const;
  void verify_plan_file(const std::string& key, const std::string& name) const;
};

}  // namespace hsrt
