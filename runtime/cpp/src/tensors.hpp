// Small safetensors files in memory; the counterpart of formats/tensors.py.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace hsrt {

struct Tensor {
  std::string dtype;  // "F32": as in the file
  std::vector<uint64_t> shape;
  std::string_view bytes;  // in the file's memory
};

struct TensorFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

// Parse a whole file. Throws std::invalid_argument, whose text completes "the file ...".
TensorFile parse_tensors(std::string_view data);

// Make a whole file of float32 and float16 tensors; the same bytes as Python's. Metadata are UTF-8;
// names must need no escapes in JSON and stand behind "__metadata__" in the alphabet.
std::string serialize_tensors(const std::map<std::string, Tensor>& tensors,
                              const std::map<std::string, std::string>& metadata);

// Copy a float32 tensor out of a file, where it may lie unaligned.
std::vector<float> floats_of(const Tensor& tensor);

// The same for a float16 tensor: its numbers' bits.
std::vector<uint16_t> halves_of(const Tensor& tensor);

// The finite number of which these are the bits, as float32 without loss.
float widened(uint16_t half);

}  // namespace hsrt
