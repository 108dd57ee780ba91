// What can go wrong, inside the library: one exception that carries the status for the caller.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "hyperstyle_rt/hyperstyle_rt.h"

namespace hsrt {

class Failure : public std::exception {
 public:
  Failure(hsrt_status status, std::string text) : status_(status), text_(std::move(text)) {}

  hsrt_status status() const noexcept { return status_; }
  const std::string& text() const noexcept { return text_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  hsrt_status status_;
  std::string text_;  // one sentence: what is wrong and how to mend it
};

}  // namespace hsrt
