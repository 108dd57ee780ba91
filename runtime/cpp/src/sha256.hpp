// SHA-256, computed by OpenSSL's libcrypto where CMake finds it, else by libmd: a small, well-kept
// library that links statically, for embedders who do not want to carry OpenSSL with them.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace hsrt {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(const void* data, size_t size);

  // 64 lower-case hexadecimal digits; the object is used up.
  std::string finish();

 private:
  static constexpr size_t kDigestSize = 32;

  struct Context;
  std::unique_ptr<Context> context_;

  static std::string hexadecimal(const std::array<unsigned char, kDigestSize>& digest) {
    std::string text;
    for (const unsigned char byte : digest) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  }
};

inline std::string sha256(std::string_view data) {
  Sha256 hash;
  hash.update(data.data(), data.size());
  return hash.finish();
}

}  // namespace hsrt
