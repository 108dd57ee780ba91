#include "boundary.hpp"

#include <algorithm>
#include <cstring>
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
  size_t size = std::min(std::strlen(text), kLongestSentence - 1);
  if (text[size] != '\0') {  // cut between two characters, not within one
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0) == 0x80) --size;
  }
  std::memmove(last_sentence, text, size);
  last_sentence[size] = '\0';
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
