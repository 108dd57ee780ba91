// Checks at the door of the C functions.
#pragma once

#include <cstdint>
#include <string>

#include "failure.hpp"

namespace hsrt {

inline Failure bad_argument(const std::string& sentence) {
  return Failure(HSRT_ERROR_ARGUMENT, sentence);
}

// Throws Failure (HSRT_ERROR_ARGUMENT) for NULL.
template <typename Type>
Type& given(Type* pointer, const char* name) {
  if (pointer == nullptr) throw bad_argument(std::string(name) + " must not be NULL");
  return *pointer;
}

// Throws Failure (HSRT_ERROR_ARGUMENT) unless the caller's structure is the one this library knows.
template <typename Struct>
const Struct& checked_struct(const Struct& value, const char* name) {
  if (value.struct_size != sizeof(Struct)) {
    throw bad_argument(std::string(name) + ".struct_size must be sizeof(" + name + "), " +
                       std::to_string(sizeof(Struct)) + ", not " +
                       std::to_string(value.struct_size));
  }
  return value;
}

inline void check_range(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    throw bad_argument(std::string(name) + " must be from " + std::to_string(low) + " to " +
                       std::to_string(high) + ", not " + std::to_string(value));
  }
}

}  // namespace hsrt
