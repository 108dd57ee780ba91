// Little-endian hosts only, like the format; CMakeLists.txt sees to it.
#include "tensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "strict_json.hpp"

namespace hsrt {
namespace {

constexpr size_t kLengthSize = 8;                     // bytes of the header's length
constexpr size_t kMaxRank = 64;                       // numpy's
constexpr uint64_t kMaxElements = uint64_t{1} << 59;  // numpy's, of the largest type

// Bytes per element of the types that numpy has.
const std::map<std::string, uint64_t> kElementSizes = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"U16", 2}, {"I16", 2}, {"F16", 2}, {"U32", 4},
    {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8}, {"F64", 8}, {"C64", 8},
};

std::invalid_argument broken(const std::string& problem) {
  return std::invalid_argument("is not a safetensors file (" + problem + ")");
}

std::string_view header_of(std::string_view data) {
  if (data.size() < kLengthSize) throw broken("it is too short");
  uint64_t length;
  std::memcpy(&length, data.data(), kLengthSize);
  if (length > data.size() - kLengthSize) throw broken("its header is longer than the file");
  const std::string_view header = data.substr(kLengthSize, length);
  if (header.empty() || header[0] != '{') throw broken("its header is no object");
  return header;
}

const Json& member(const Json::Object& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) throw broken(std::string("a tensor lacks its ") + key);
  return found->second;
}

std::vector<uint64_t> naturals(const Json& list) {
  const auto* items = list.as<Json::Array>();
  if (items == nullptr) throw broken("a shape or offset is no list");
  std::vector<uint64_t> numbers;
  for (const Json& item : *items) {
    const auto* number = item.as<uint64_t>();
    if (number == nullptr) throw broken("a shape or offset is no natural number");
    numbers.push_back(*number);
  }
  return numbers;
}

uint64_t size_in_bytes(const std::string& dtype, const std::vector<uint64_t>& shape) {
  const auto element = kElementSizes.find(dtype);
  bool representable = element != kElementSizes.end() && shape.size() <= kMaxRank;
  uint64_t extent = 1;  // of the dimensions that are not zero
  bool empty = false;
  for (const uint64_t length : shape) {
    empty = empty || length == 0;
    if (length > 1) representable = representable && extent <= kMaxElements / length;
    if (length > 1 && representable) extent *= length;
  }
  if (!representable) {
    throw std::invalid_argument("holds a tensor of a type or shape that numpy does not have");
  }
  return empty ? 0 : extent * element->second;
}

// One entry of the header; gives where its bytes begin and end in the buffer.
std::pair<uint64_t, uint64_t> read_entry(const Json& entry, Tensor& tensor) {
  const auto* fields = entry.as<Json::Object>();
  if (fields == nullptr) throw broken("a tensor is no object");
  const auto* dtype = member(*fields, "dtype").as<std::string>();
  if (dtype == nullptr) throw broken("a type is no text");
  tensor.dtype = *dtype;
  tensor.shape = naturals(member(*fields, "shape"));
  const std::vector<uint64_t> offsets = naturals(member(*fields, "data_offsets"));
  if (offsets.size() != 2) throw broken("a tensor has not two offsets");
  if (offsets[0] > offsets[1]) throw broken("a tensor ends before it begins");
  if (size_in_bytes(tensor.dtype, tensor.shape) != offsets[1] - offsets[0]) {
    throw broken("a tensor's size is not its shape's");
  }
  return {offsets[0], offsets[1]};
}

void read_metadata(const Json& entries, std::map<std::string, std::string>& metadata) {
  if (entries.as<std::nullptr_t>() != nullptr) return;
  const auto* fields = entries.as<Json::Object>();
  if (fields == nullptr) throw broken("its metadata are no object");
  for (const auto& [key, value] : *fields) {
    const auto* text = value.as<std::string>();
    if (text == nullptr) throw broken("its metadata hold other things than texts");
    metadata[key] = *text;
  }
}

// The tensors in the order of their bytes: those of the larger type first, so that none lies
// unaligned, then by name. It is the safetensors library's.
std::vector<const std::pair<const std::string, Tensor>*> by_layout(
    const std::map<std::string, Tensor>& tensors) {
  std::vector<const std::pair<const std::string, Tensor>*> order;
  for (const auto& item : tensors) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const auto* one, const auto* other) {
    const auto size = kElementSizes.at(one->second.dtype);
    const auto other_size = kElementSizes.at(other->second.dtype);
    return size != other_size ? size > other_size : one->first < other->first;
  });
  return order;
}

template <typename Number>
std::vector<Number> numbers_of(const Tensor& tensor) {
  std::vector<Number> numbers(tensor.bytes.size() / sizeof(Number));
  if (!numbers.empty()) std::memcpy(numbers.data(), tensor.bytes.data(), tensor.bytes.size());
  return numbers;
}

void append_escape(std::string& text, uint32_t unit) {
  text += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) text += "0123456789abcdef"[unit >> shift & 15];
}

// A text of UTF-8 as Python's json writes it: in ASCII.
std::string quoted(std::string_view utf8) {
  const std::map<char, const char*> short_escapes = {{'"', "\\\""}, {'\\', "\\\\"}, {'\n', "\\n"},
                                                     {'\r', "\\r"}, {'\t', "\\t"},  {'\b', "\\b"},
                                                     {'\f', "\\f"}};
  std::string text = "\"";
  for (size_t at = 0; at < utf8.size();) {
    const auto byte = static_cast<unsigned char>(utf8[at++]);
    const auto escape = short_escapes.find(static_cast<char>(byte));
    if (escape != short_escapes.end()) {
      text += escape->second;
    } else if (byte >= 0x20 && byte < 0x7f) {
      text += static_cast<char>(byte);
    } else {
      const int following = byte < 0x80 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
      uint32_t point = following == 0 ? byte : byte & (0x3fu >> following);
      for (int more = 0; more < following && at < utf8.size(); ++more) {
        point = point << 6 | (static_cast<unsigned char>(utf8[at++]) & 0x3fu);
      }
      if (point >= 0x10000) append_escape(text, 0xd800 + ((point - 0x10000) >> 10));
      append_escape(text, point < 0x10000 ? point : 0xdc00 + ((point - 0x10000) & 0x3ff));
    }
  }
  return text + "\"";
}

std::string joined(const std::vector<uint64_t>& numbers) {
  std::string text;
  for (const uint64_t number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return text;
}

}  // namespace

TensorFile parse_tensors(std::string_view data) {
  const std::string_view text = header_of(data);
  const std::string_view buffer = data.substr(kLengthSize + text.size());
  const Json header = parse_strict(text);
  TensorFile file;
  std::vector<std::pair<uint64_t, uint64_t>> extents;
  for (const auto& [name, entry] : std::get<Json::Object>(header.value)) {
    if (name == "__metadata__") {
      read_metadata(entry, file.metadata);
      continue;
    }
    Tensor& tensor = file.tensors[name];
    const auto [begin, end] = read_entry(entry, tensor);
    if (end > buffer.size()) throw broken("a tensor lies beyond the end");
    tensor.bytes = buffer.substr(begin, end - begin);
    extents.emplace_back(begin, end);
  }
  std::sort(extents.begin(), extents.end());
  uint64_t covered = 0;
  for (const auto& [begin, end] : extents) {
    if (begin != covered) throw broken("its tensors overlap or leave gaps");
    covered = end;
  }
  if (covered != buffer.size()) throw broken("bytes follow its last tensor");
  return file;
}

std::string serialize_tensors(const std::map<std::string, Tensor>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::string text = "{\"__metadata__\":{";
  for (const auto& [key, value] : metadata) {
    text += (text.back() == '{' ? "" : ",") + quoted(key) + ":" + quoted(value);
  }
  text += "}";
  std::string content;
  std::map<std::string, size_t> begins;
  for (const auto* item : by_layout(tensors)) {
    begins[item->first] = content.size();
    content += item->second.bytes;
  }
  for (const auto& [name, tensor] : tensors) {
    const std::vector<uint64_t> offsets = {begins[name], begins[name] + tensor.bytes.size()};
    text += ",\"" + name + "\":{\"data_offsets\":[" + joined(offsets) + "],\"dtype\":\"" +
            tensor.dtype + "\",\"shape\":[" + joined(tensor.shape) + "]}";
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');  // tensors start at a multiple of 8
  const uint64_t length = text.size();
  std::string file(reinterpret_cast<const char*>(&length), kLengthSize);
  return file + text + content;
}

std::vector<float> floats_of(const Tensor& tensor) { return numbers_of<float>(tensor); }

std::vector<uint16_t> halves_of(const Tensor& tensor) { return numbers_of<uint16_t>(tensor); }

float widened(uint16_t half) {
  const int exponent = half >> 10 & 0x1F;
  const int fraction = half & 0x3FF;
  const int implied = 0x400;  // the leading one of all but the smallest
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(fraction), -24)
                              : std::ldexp(static_cast<float>(fraction | implied), exponent - 25);
  return (half & 0x8000) == 0 ? magnitude : -magnitude;
}

}  // namespace hsrt
