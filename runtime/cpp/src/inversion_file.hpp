// Inversion files; the twin of inversion_file.py, which says why they look as they do.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hsrt {

// Bytes; an official model's file has 38 thousand, refined 5.2 million.
constexpr size_t kMaxInversionFile = size_t{1} << 24;

// Rows of floats.
struct Matrix {
  size_t rows = 0;
  size_t columns = 0;
  std::vector<float> values;
};

struct InversionData {
  Matrix latents;  // [L,W]
  Matrix codes;    // [M,K+1]
  int iterations = 0;
  std::string bundle_name;
  std::string bundle_digest;
  std::vector<float> transform;  // 9, or none
  std::string picture;           // SHA-256 of the picture's file, or empty

  // Bits of float16 [P], or none: free offsets of the tuned layers, one after the other, each [O,I]
  // and added to what the codes give.
  std::vector<uint16_t> channels;
};

// Gives a bundle's average latent [L,W], or null if it is not at hand.
using LatentAverageOf =
    std::function<const Matrix*(const std::string& name, const std::string& digest)>;

// Both throw Failure (HSRT_ERROR_INVERSION).
InversionData parse_inversion(std::string_view content, const LatentAverageOf& average_of);
std::string serialize_inversion(const InversionData& data, const Matrix* latent_average);

// Refuse what an inversion must not hold. Throws Failure (HSRT_ERROR_INVERSION).
void check_inversion(const InversionData& data);

// The style vector [W] that all rows share: added to the average it gives the latents, bit by bit.
std::optional<std::vector<float>> shared_style(const Matrix& latents, const Matrix& average);

}  // namespace hsrt
