// One model, a session per thread: how a server uses the library.
//
//     hsrt_many_threads BUNDLE [THREADS]
//
// Inverts as many different pictures, then does each again alone: the results must be the same.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

namespace {

using Pixels = std::vector<unsigned char>;

constexpr int kSide = 64;

// A picture of its own for every thread.
Pixels some_picture(int number) {
  Pixels pixels(3 * kSide * kSide);
  for (size_t at = 0; at < pixels.size(); ++at) {
    pixels[at] = static_cast<unsigned char>((at * static_cast<size_t>(number + 3)) >> 5);
  }
  return pixels;
}

Pixels reconstruct(const hyperstyle_rt::Model& model, int number) {
  hyperstyle_rt::Session session(model);
  const Pixels picture = some_picture(number);
  const auto face = session.invert({picture.data(), kSide, kSide});
  const hsrt_model_info& info = model.info();
  Pixels result(3 * static_cast<size_t>(info.image_width) * info.image_height);
  const hyperstyle_rt::Image image(result.data(), info.image_width, info.image_height);
  face.image(image);
  session.render(face, image);  // once more, with the kernels that the session has kept
  return result;
}

// Whether sessions side by side give what each gives alone.
bool same_as_alone(const std::string& bundle, int count) {
  hyperstyle_rt::ModelOptions options;
  options.threads = 1;  // the threads are ours
  const hyperstyle_rt::Model model(bundle, options);
  std::vector<Pixels> together(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int number = 0; number < count; ++number) {
    threads.emplace_back([&, number] {
      try {
        together[static_cast<size_t>(number)] = reconstruct(model, number);
      } catch (const std::exception& failure) {
        std::cerr << failure.what() << '\n';
        ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (failures != 0) return false;
  for (int number = 0; number < count; ++number) {
    if (reconstruct(model, number) != together[static_cast<size_t>(number)]) return false;
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::cerr << "usage: " << arguments[0] << " BUNDLE [THREADS]\n";
    return 2;
  }
  const int threads = count > 2 ? std::clamp(std::atoi(arguments[2]), 1, 64) : 8;
  try {
    const bool same = same_as_alone(arguments[1], threads);
    std::cout << threads << " sessions side by side gave "
              << (same ? "what each gives alone\n" : "OTHER pictures than each gives alone\n");
    return same ? 0 : 1;
  } catch (const std::exception& failure) {
    std::cerr << failure.what() << '\n';
    return 2;
  }
}
