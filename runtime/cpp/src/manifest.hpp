// The manifest of an engine bundle, typed and checked; the twin of manifest.py.
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
constexpr const char* kBasePrecision = "fp32";  // of `graphs`; `precisions` lists twins in others
constexpr const char* kLatentAverageName = "latent_average.safetensors";
constexpr const char* kDataSuffix = ".data";  // of the file beside a graph with its large tensors

struct TunedLayer {
  int64_t index;                 // the official offset index, counting toRGB layers
  std::string name;              // "convs.3": its weights are the tensor "weight.convs.3"
  std::array<int64_t, 4> shape;  // (O, I, k, k)
};

struct BundleFile {
  std::string sha256;
  uint64_t size;
  std::string precision;
};

using Graphs = std::map<std::string, std::string>;  // role -> file name
using Files = std::map<std::string, BundleFile>;    // by name

// The bundle whose inversions an adapted bundle renders.
struct BaseBundle {
  std::string name;
  std::string digest;
};

struct Size {
  int height;
  int width;
};

struct Manifest {
  std::string name;
  std::string domain;
  std::string license;
  int resolution;  // side of the generated square before the crop
  Size image_size;
  Size input_size;
  std::pair<int, int> crop_rows;  // (top, bottom): rows of the square that are kept
  int num_latents;                // L
  int style_width;                // W
  int code_width;                 // K
  int default_iterations;
  std::vector<TunedLayer> tuned_layers;  // M rows of the offset codes
  Graphs graphs;
  Files files;
  std::map<std::string, Graphs> precisions;  // of twins of the required graphs: "fp16"
  std::map<std::string, Files> plans;        // "<TensorRT's version>-sm<GPU's>-<precision>"

  // None: the bundle inverts. Else it is a fine-tuned generator, which has no encoder and hypernet.
  std::optional<BaseBundle> base;
  Graphs refinement;  // of the graphs that refine, only "channels" is run here

  // Throws Failure (HSRT_ERROR_BUNDLE) for what manifest.py refuses.
  static Manifest parse(std::string_view text);

  // What inversions are tied to: SHA-256 of the `files` table as canonical JSON, as far as it says
  // what latents and codes mean.
  std::string digest() const;
};

}  // namespace hsrt
