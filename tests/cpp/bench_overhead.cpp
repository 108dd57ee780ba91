// How much of an inversion is spent outside ONNX Runtime's session runs, measured in one run: this
// program stands between the library and ONNX Runtime and times every run of a graph. benchmark.py
// runs it.
//
//     bench_overhead BUNDLE
#include <chrono>
#include <cstdio>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <vector>

#include "ort_stand_in.hpp"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSide = 1024;  // of the picture: the resize counts, too

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double seconds_in_runs = 0;

OrtStatus* ORT_API_CALL timed_run(OrtSession* session, const OrtRunOptions* options,
                                  const OrtIoBinding* binding) noexcept {
  const auto start = Clock::now();
  OrtStatus* status = real_ort->RunWithBinding(session, options, binding);
  seconds_in_runs += seconds_since(start);
  return status;
}

}  // namespace

void stand_in(OrtApi& api) { api.RunWithBinding = timed_run; }

// Prints "drawn" when the picture before the iterations and when the first inversion are there,
// then the share of an inversion that was spent outside session runs.
int main(int count, char** arguments) {
  if (count != 2) return 2;
  std::vector<unsigned char> pixels(3 * kSide * kSide);
  for (size_t at = 0; at < pixels.size(); ++at) pixels[at] = static_cast<unsigned char>(at >> 6);
  const hyperstyle_rt::ConstImage picture(pixels.data(), kSide, kSide);

  const hyperstyle_rt::Model model(arguments[1]);
  hyperstyle_rt::Session session(model);
  const hsrt_model_info& info = model.info();
  std::vector<unsigned char> drawn(3 * static_cast<size_t>(info.image_width) * info.image_height);
  const hyperstyle_rt::Image image(drawn.data(), info.image_width, info.image_height);
  hyperstyle_rt::InvertOptions one;
  one.iterations = HSRT_NO_ITERATIONS;
  session.invert(picture, one).image(image);
  std::puts("drawn");
  std::fflush(stdout);
  session.invert(picture).image(image);
  std::puts("drawn");
  std::fflush(stdout);

  seconds_in_runs = 0;
  const auto began = Clock::now();
  session.invert(picture).image(image);
  const double all = seconds_since(began);
  std::printf("%.6f\n", (all - seconds_in_runs) / all);
  return 0;
}
