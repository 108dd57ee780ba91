// A model, a session and a picture for the tests of the C API.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <iterator>
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

// Whether a call failed with this status, for this reason.
inline bool fails(hsrt_status status, hsrt_status expected, const std::string& reason) {
  const std::string sentence = hsrt_last_error();
  if (status == expected && sentence.find(reason) != std::string::npos) return true;
  std::printf("%s: %s\n", hsrt_status_name(status), sentence.c_str());
  return false;
}
