// Inversion files, as formats/inversion_file.py. docs/formats.md is their specification.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hsrt {

struct Manifest;

// Bytes; an official model's file has 38 thousand, with channel offsets 5.2 million. Files of free
// weights, which are refused by name, have 60 million.
constexpr size_t kMaxInversionFile = size_t{1} << 27;

// Rows of floats; none of them where there is nothing.
struct Matrix {
  size_t rows = 0;
  size_t columns = 0;
  std::vector<float> values;

  bool empty() const { return values.empty(); }
};

struct InversionData {
  Matrix latents;  // [L,W]
  Matrix codes;    // [M,K+1], or none: the generator's own kernels, as zero codes give them
  int iterations = 0;
  std::string space;        // of the generator
  std::string code_space;   // of what expands the codes; empty without codes
  std::string bundle_name;  // provenance, like the following
  std::string bundle_digest;
  std::string method;
  std::string settings;          // a JSON object
  std::string computed;          // a JSON object with texts backend, provider and precision
  std::vector<float> transform;  // 9, or none
  std::string picture;           // SHA-256 of the picture's file, or empty

  // Bits of float16 [P], or none: offsets of the tuned layers, one layer after the other, each
  // [O,I] and added to what the codes give.
  std::vector<uint16_t> channel_offsets;
};

// Both throw Failure (HSRT_ERROR_INVERSION).
InversionData parse_inversion(std::string_view content);
std::string serialize_inversion(const InversionData& data);

// Refuse what an inversion must not hold. Throws Failure (HSRT_ERROR_INVERSION).
void check_inversion(const InversionData& data);

// Refuse an inversion that a bundle cannot render: one of another generator or shape, or with codes
// that the bundle does not know. Throws Failure (HSRT_ERROR_INVERSION).
void check_fits(const InversionData& data, const Manifest& manifest);

}  // namespace hsrt
