#include <sha2.h>

#include "sha256.hpp"

namespace hsrt {

struct Sha256::Context {
  SHA2_CTX state;
};

Sha256::Sha256() : context_(new Context) { SHA256Init(&context_->state); }

Sha256::~Sha256() = default;

void Sha256::update(const void* data, size_t size) {
  if (size > 0) SHA256Update(&context_->state, static_cast<const uint8_t*>(data), size);
}

std::string Sha256::finish() {
  std::array<unsigned char, kDigestSize> digest;
  SHA256Final(digest.data(), &context_->state);
  return hexadecimal(digest);
}

}  // namespace hsrt
