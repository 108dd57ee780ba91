// The manifest of an engine bundle, typed and checked; the twin of manifest.py.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hsrt {

constexpr int kMaxIterations = 100;

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
  std::vector<TunedLayer> tuned_layers;       // M rows of the offset codes
  std::map<std::string, std::string> graphs;  // role -> file name
  std::map<std::string, BundleFile> files;

  // Throws Failure (HSRT_ERROR_BUNDLE) for what manifest.py refuses.
  static Manifest parse(std::string_view text);

  // SHA-256 of the `files` table as canonical JSON: what inversions are tied to.
  std::string digest() const;
};

}  // namespace hsrt
