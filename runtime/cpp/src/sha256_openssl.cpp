#include <openssl/evp.h>

#include <array>
#include <new>

#include "failure.hpp"
#include "sha256.hpp"

namespace hsrt {

struct Sha256::Context {
  EVP_MD_CTX* state = EVP_MD_CTX_new();

  ~Context() { EVP_MD_CTX_free(state); }
  void require(int success) const {
    if (success != 1) throw Failure(HSRT_ERROR_INTERNAL, "OpenSSL does not offer SHA-256 here");
  }
};

Sha256::Sha256() : context_(new Context) {
  if (context_->state == nullptr) throw std::bad_alloc();
  context_->require(EVP_DigestInit_ex(context_->state, EVP_sha256(), nullptr));
}

Sha256::~Sha256() = default;

void Sha256::update(const void* data, size_t size) {
  context_->require(EVP_DigestUpdate(context_->state, data, size));
}

std::string Sha256::finish() {
  std::array<unsigned char, kDigestSize> digest;
  context_->require(EVP_DigestFinal_ex(context_->state, digest.data(), nullptr));
  return hexadecimal(digest);
}

}  // namespace hsrt
