// Draw edits of an inversion, in C++.
//
//     hsrt_edit BUNDLE INVERSION.safetensors OUTPUT_PREFIX
//
// Writes OUTPUT_PREFIX0.ppm to OUTPUT_PREFIX4.ppm: steps along a random direction of the latents,
// weaker to stronger. A real application has directions that mean something ("smile").
#include <cmath>
#include <fstream>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <iostream>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr int kSteps = 5;

// A direction [W] of length 1, always the same.
std::vector<float> some_direction(size_t width) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> direction(width);
  double square = 0;
  for (float& value : direction) {
    value = normal(random);
    square += double{value} * value;
  }
  for (float& value : direction) value /= static_cast<float>(std::sqrt(square));
  return direction;
}

void draw_edits(const std::string& bundle, const std::string& path, const std::string& prefix) {
  const hyperstyle_rt::Model model(bundle);
  hyperstyle_rt::Session session(model);
  const auto face = hyperstyle_rt::Inversion::load(model, path);
  const hsrt_model_info& info = model.info();
  const std::vector<float> direction = some_direction(static_cast<size_t>(info.latent_width));
  std::vector<char> pixels(3 * static_cast<size_t>(info.image_width) * info.image_height);
  for (int step = 0; step < kSteps; ++step) {
    // The face's kernels are expanded for the first picture only: the session keeps them.
    session.edit(face, direction, static_cast<float>(step - kSteps / 2) * 2,
                 {pixels.data(), info.image_width, info.image_height});
    std::ofstream file(prefix + std::to_string(step) + ".ppm", std::ios::binary);
    file << "P6\n" << info.image_width << ' ' << info.image_height << "\n255\n";
    file.write(pixels.data(), static_cast<std::streamsize>(pixels.size()));
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::cerr << "usage: " << arguments[0] << " BUNDLE INVERSION.safetensors OUTPUT_PREFIX\n";
    return 2;
  }
  try {
    draw_edits(arguments[1], arguments[2], arguments[3]);
    return 0;
  } catch (const std::exception& failure) {
    std::cerr << failure.what() << '\n';
    return 2;
  }
}
