// The manifest of an engine bundle, typed and checked; like formats/manifest.py and methods.py.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hsrt {

constexpr int kMaxIterations = 100;
constexpr const char* kBasePrecision = "fp32";  // of `graphs`; `precisions` lists others
constexpr const char* kLatentAverageName = "latent_average.safetensors";

// A convolution whose kernel is tuned per picture: one row of the offset codes.
struct TunedLayer {
  int64_t index;                 // as the method's authors number the generator's layers
  std::string name;              // "convs.3": its kernel is the tensor "weight.convs.3"
  std::array<int64_t, 4> shape;  // (O, I, k, k)
};

// The offset codes of a bundle: [M,width], a row for every tuned layer.
struct CodeLayout {
  int width;          // K+1
  std::string space;  // codes mean the same in two bundles that agree in it
};

struct GraphFile {
  std::string file;
  std::vector<std::string> data;  // every file that it reads tensors from
};

struct BundleFile {
  std::string sha256;
  uint64_t size;
  std::string stored;  // type of its tensors on disk
};

using Graphs = std::map<std::string, GraphFile>;  // by role
using Files = std::map<std::string, BundleFile>;  // by name

struct Phase {
  std::string graph;          // role
  std::optional<int> repeat;  // none: it runs once and is no iteration
};

// How a picture is inverted: phases, one after the other.
struct Method {
  std::vector<Phase> phases;

  // Place of the phase that a caller's number of iterations replaces, the last that repeats;
  // phases.size() where none does.
  size_t iterating_phase() const;
  int iterations() const;  // its repeat; 0 where no phase repeats
};

// The bundle whose inversions an adapted bundle renders.
struct BaseBundle {
  std::string name;
  std::string space;
};

struct Size {
  int height;
  int width;
};

inline bool operator<(Size one, Size other) {
  return std::pair(one.height, one.width) < std::pair(other.height, other.width);
}

struct Manifest {
  std::string name;
  std::string domain;
  std::string license;
  std::string space;  // identity of the generator: what inversions are tied to
  int resolution;     // side of the generated square before the crop
  Size image_size;
  Size input_size;
  std::pair<int, int> crop_rows;    // (top, bottom): rows of the square that are kept
  int num_latents;                  // L
  int latent_width;                 // W
  std::optional<CodeLayout> codes;  // none: the bundle knows no codes
  std::vector<TunedLayer> tuned_layers;
  Graphs graphs;
  Files files;
  std::map<std::string, Method> methods;  // none: the bundle only renders
  std::string default_method;             // empty where there are none
  std::map<std::string, Graphs> precisions;
  std::map<std::string, Files> plans;  // "<TensorRT's version>-sm<GPU's>-<precision>"
  std::optional<BaseBundle> base;      // of a fine-tuned generator, which has no methods

  // Throws Failure (HSRT_ERROR_BUNDLE) for what manifest.py refuses.
  static Manifest parse(std::string_view text);

  // A method by its name, the default for none. Throws Failure (HSRT_ERROR_BUNDLE), which names the
  // methods there are.
  const std::string& method_name(const char* wanted) const;

  // The space of the inversions that this bundle renders: its own, or that of its base.
  const std::string& inversion_space() const { return base ? base->space : space; }

  // P: pairs of output and input channels of all tuned layers together.
  size_t num_channel_offsets() const;

  // SHA-256 of the `files` table as canonical JSON.
  std::string digest() const;
};

}  // namespace hsrt
