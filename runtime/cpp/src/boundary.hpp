// The C boundary: no exception passes it, every failure leaves a sentence for the thread.
#pragma once

#include <exception>
#include <new>

#include "failure.hpp"

namespace hsrt {

// Remember a sentence for hsrt_last_error(); does not allocate.
void set_last_error(const char* text) noexcept;
const char* last_error() noexcept;

void set_log(hsrt_log_callback callback, void* user) noexcept;
void log(hsrt_log_level level, const char* message) noexcept;

// Run the body of a C function; what it throws becomes a status.
template <typename Body>
hsrt_status guarded(Body&& body) noexcept {
  try {
    set_last_error("");
    body();
    return HSRT_OK;
  } catch (const Failure& failure) {
    set_last_error(failure.what());
    return failure.status();
  } catch (const std::bad_alloc&) {
    set_last_error("out of memory; use smaller pictures or fewer sessions at a time");
    return HSRT_ERROR_MEMORY;
  } catch (const std::exception& defect) {
    set_last_error(defect.what());
    return HSRT_ERROR_INTERNAL;
  } catch (...) {
    set_last_error("an exception of unknown type");
    return HSRT_ERROR_INTERNAL;
  }
}

}  // namespace hsrt
