// A model, a session and a picture for the tests of the C API.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

#include "check.hpp"

constexpr int kSide = 48;

inline std::vector<unsigned char> some_pixels() {
  std::vector<unsigned char> pixels(4 * kSide * kSide);
  for (size_t at = 0; at < pixels.size(); ++at) pixels[at] = static_cast<unsigned char>(at * 7);
  return pixels;
}

struct Fixture {
  std::string bundle;
  hyperstyle_rt::Model model;
  hyperstyle_rt::Session session;
  std::vector<unsigned char> pixels = some_pixels();
  hyperstyle_rt::ConstImage picture{pixels.data(), kSide, kSide};
  std::vector<unsigned char> drawn;
  hyperstyle_rt::Image result{nullptr, 0, 0};

  explicit Fixture(const std::string& directory)
      : bundle(directory), model(directory), session(model) {
    const hsrt_model_info& info = model.info();
    drawn.resize(4 * static_cast<size_t>(info.image_width) * info.image_height);
    result = result_in(drawn);
  }

  hyperstyle_rt::Image result_in(std::vector<unsigned char>& pixels_of) const {
    return {pixels_of.data(), model.info().image_width, model.info().image_height};
  }
};

inline std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// An inversion file of a bundle with channel offsets of 0.25.
inline std::vector<unsigned char> refined(const std::string& bundle,
                                          const std::vector<unsigned char>& unrefined) {
  std::string manifest = read(std::filesystem::path(bundle) / "manifest.json");
  const size_t layers = manifest.find("\"tuned_layers\"");  // other fields have shapes, too
  manifest = manifest.substr(layers, manifest.find("\"graphs\"", layers) - layers);
  const std::regex shape("\"shape\":\\s*\\[\\s*(\\d+),\\s*(\\d+),");
  size_t pairs = 0;
  for (std::sregex_iterator layer(manifest.begin(), manifest.end(), shape), end; layer != end;
       ++layer) {
    pairs += std::stoul((*layer)[1]) * std::stoul((*layer)[2]);
  }
  uint64_t length = 0;
  std::memcpy(&length, unrefined.data(), sizeof length);
  const auto data = unrefined.begin() + static_cast<ptrdiff_t>(sizeof length + length);
  const auto before = static_cast<size_t>(unrefined.end() - data);
  std::string header(unrefined.begin() + sizeof length, data);
  const std::string needs = R"([\"codes\"])";
  header.replace(header.find(needs), needs.size(), R"([\"codes\",\"channel_offsets\"])");
  header.insert(header.find("\"codes\":"),
                "\"channel_offsets\":{\"data_offsets\":[" + std::to_string(before) + "," +
                    std::to_string(before + 2 * pairs) + "],\"dtype\":\"F16\",\"shape\":[" +
                    std::to_string(pairs) + "]},");
  header.resize(header.find_last_of('}') + 1);
  header.resize((header.size() + 7) / 8 * 8, ' ');
  length = header.size();
  std::string made(reinterpret_cast<const char*>(&length), sizeof length);
  made.append(header).append(data, unrefined.end());
  for (size_t at = 0; at < pairs; ++at) made.append("\x00\x34", 2);
  return {made.begin(), made.end()};
}

// Whether a call failed with this status, for this reason.
inline bool fails(hsrt_status status, hsrt_status expected, const std::string& reason) {
  const std::string sentence = hsrt_last_error();
  if (status == expected && sentence.find(reason) != std::string::npos) return true;
  std::printf("%s: %s\n", hsrt_status_name(status), sentence.c_str());
  return false;
}
