// Threads: how many there are, what an environment of the application's does, and that nothing is
// printed.
//
//     test_threads BUNDLE
#include <fcntl.h>
#include <onnxruntime_c_api.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "fixture.hpp"

namespace {

ptrdiff_t threads_of_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

int cpus_of_process() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::vector<unsigned char> inverted(const std::string& bundle, int threads, ptrdiff_t* count) {
  const std::vector<unsigned char> pixels = some_pixels();
  hyperstyle_rt::ModelOptions options;
  options.threads = threads;
  const hyperstyle_rt::Model model(bundle, options);
  const auto face = hyperstyle_rt::Session(model).invert({pixels.data(), kSide, kSide});
  *count = threads_of_process();
  return face.save();
}

// All graphs share one pool, which a caller's thread is part of, and nothing else is running.
void test_one_pool_for_all_graphs(const std::string& bundle) {
  ptrdiff_t count = 0;
  const auto expected = inverted(bundle, 1, &count);
  CHECK(count == 1);
  const auto cpus = static_cast<ptrdiff_t>(cpus_of_process());
  CHECK(inverted(bundle, 2, &count) == expected);
  CHECK(count == std::min<ptrdiff_t>(2, cpus));
  for (const int threads : {0, 1024}) {  // never more than there are CPUs
    CHECK(inverted(bundle, threads, &count) == expected);
    CHECK(count >= 1 && count <= cpus);
  }
}

// A model that asks for another number than the pool has gets threads of its own.
void test_models_of_different_threads(const std::string& bundle) {
  ptrdiff_t count = 0;
  hyperstyle_rt::ModelOptions one;
  one.threads = 1;
  const hyperstyle_rt::Model first(bundle, one);
  const auto expected = inverted(bundle, 1, &count);
  CHECK(count == 1);
  CHECK(inverted(bundle, 2, &count) == expected);
  CHECK(count >= std::min<ptrdiff_t>(2, static_cast<ptrdiff_t>(cpus_of_process())));
}

// In an application that has made an environment without a pool, graphs have threads of their own.
void test_environment_of_the_application(const std::string& bundle) {
  ptrdiff_t count = 0;
  const auto expected = inverted(bundle, 2, &count);
  const OrtApi* ort = OrtGetApiBase()->GetApi(18);
  OrtEnv* env = nullptr;
  CHECK(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "application", &env) == nullptr);
  CHECK(inverted(bundle, 2, &count) == expected);
  ort->ReleaseEnv(env);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const std::string printed =
      std::filesystem::temp_directory_path() / ("hsrt_stderr_" + std::to_string(getpid()));
  const int file = ::open(printed.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  const int screen = ::dup(2);
  if (file < 0 || ::dup2(file, 2) < 0) return 2;
  test_one_pool_for_all_graphs(arguments[1]);
  test_models_of_different_threads(arguments[1]);
  test_environment_of_the_application(arguments[1]);
  ::dup2(screen, 2);
  const std::string text = read(printed);
  if (!text.empty()) std::printf("printed: %s\n", text.c_str());
  CHECK(text.empty());
  const char* reports = std::getenv("ORT_DISABLE_TELEMETRY");
  CHECK(reports != nullptr && std::string(reports) == "1");
  std::filesystem::remove(printed);
  return outcome();
}
