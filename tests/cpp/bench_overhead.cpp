// How much of an inversion is spent outside ONNX Runtime's session runs, measured in one run: this
// program stands between the library and ONNX Runtime and times every run of a graph.
//
//     bench_overhead BUNDLE [REPETITIONS]
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSide = 1024;  // of the picture: the resize counts, too

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const OrtApiBase* real_base = nullptr;
const OrtApi* real_api = nullptr;
OrtApi timed_api;
double seconds_in_runs = 0;

OrtStatus* ORT_API_CALL timed_run(OrtSession* session, const OrtRunOptions* options,
                                  const OrtIoBinding* binding) noexcept {
  const auto start = Clock::now();
  OrtStatus* status = real_api->RunWithBinding(session, options, binding);
  seconds_in_runs += seconds_since(start);
  return status;
}

const OrtApi* ORT_API_CALL timed_get_api(uint32_t version) noexcept {
  real_api = real_base->GetApi(version);
  if (real_api == nullptr) return nullptr;
  timed_api = *real_api;
  timed_api.RunWithBinding = timed_run;
  return &timed_api;
}

const char* ORT_API_CALL real_version() noexcept { return real_base->GetVersionString(); }

}  // namespace

// Found by the library before ONNX Runtime's own.
extern "C" __attribute__((visibility("default"))) const OrtApiBase* OrtGetApiBase() noexcept {
  static const OrtApiBase base = {timed_get_api, real_version};
  if (real_base == nullptr) {
    using Get = const OrtApiBase* (*)();
    real_base = reinterpret_cast<Get>(dlsym(RTLD_NEXT, "OrtGetApiBase"))();
  }
  return &base;
}

int main(int count, char** arguments) {
  if (count < 2) return 2;
  const int repetitions = count > 2 ? std::atoi(arguments[2]) : 3;
  std::vector<unsigned char> pixels(3 * kSide * kSide);
  for (size_t at = 0; at < pixels.size(); ++at) pixels[at] = static_cast<unsigned char>(at >> 6);
  const hyperstyle_rt::ConstImage picture(pixels.data(), kSide, kSide);

  const auto start = Clock::now();
  const hyperstyle_rt::Model model(arguments[1]);
  hyperstyle_rt::Session session(model);
  const hsrt_model_info& info = model.info();
  std::vector<unsigned char> drawn(3 * static_cast<size_t>(info.image_width) * info.image_height);
  const hyperstyle_rt::Image image(drawn.data(), info.image_width, info.image_height);
  hyperstyle_rt::InvertOptions one;
  one.iterations = HSRT_ENCODER_ONLY;
  session.invert(picture, one).image(image);
  std::printf("start to the encoder's picture: %.2f s\n", seconds_since(start));
  session.invert(picture).image(image);
  std::printf("start to the first inversion:   %.2f s\n", seconds_since(start));

  for (int repetition = 0; repetition < repetitions; ++repetition) {
    seconds_in_runs = 0;
    const auto began = Clock::now();
    session.invert(picture).image(image);
    const double all = seconds_since(began);
    std::printf("inversion %.3f s, in session runs %.3f s, outside %.2f %%\n", all, seconds_in_runs,
                100 * (all - seconds_in_runs) / all);
  }
  return 0;
}
