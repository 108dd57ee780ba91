#include "boundary.hpp"

#include <cstdio>
#include <mutex>

namespace hsrt {
namespace {

constexpr size_t kLongestSentence = 1024;

thread_local char last_sentence[kLongestSentence] = "";

std::mutex log_mutex;
hsrt_log_callback log_callback = nullptr;
void* log_user = nullptr;

}  // namespace

void set_last_error(const char* text) noexcept {
  std::snprintf(last_sentence, sizeof last_sentence, "%s", text);
}

const char* last_error() noexcept { return last_sentence; }

void set_log(hsrt_log_callback callback, void* user) noexcept {
  const std::lock_guard<std::mutex> lock(log_mutex);
  log_callback = callback;
  log_user = user;
}

void log(hsrt_log_level level, const char* message) noexcept {
  const std::lock_guard<std::mutex> lock(log_mutex);
  if (log_callback != nullptr) log_callback(log_user, level, message);
}

}  // namespace hsrt
