// Typed access to the fields of a manifest that may hold anything; the counterpart of
// formats/fields.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "failure.hpp"
#include "strict_json.hpp"

namespace hsrt {

constexpr int64_t kMaxInteger = (int64_t{1} << 53) - 1;  // what every JSON reader holds exactly

// Whether it may name a file of a bundle, a bundle, a layer or a role: never a path on any system.
bool is_plain_name(std::string_view text);
bool is_sha256(std::string_view text);

// The failure for a manifest whose problem completes the sentence "the manifest ...".
Failure invalid(const std::string& problem);

// The fields of one JSON object; every failure names the field by its whole path.
class Fields {
 public:
  Fields(const Json& value, std::string where);  // the value must outlive it

  bool has(const std::string& key) const { return document_->count(key) != 0; }
  const Json& value(const std::string& key) const;
  std::vector<std::string> keys() const;
  std::vector<std::string> plain_keys() const;  // all keys, which must be plain names

  std::string text(const std::string& key) const;
  std::string plain_name(const std::string& key) const;
  std::vector<std::string> plain_names(const std::string& key) const;  // none of them twice
  std::string digest(const std::string& key) const;
  int64_t integer(const std::string& key, int64_t low, int64_t high) const;
  std::vector<int64_t> integers(const std::string& key, size_t count, int64_t low,
                                int64_t high) const;
  std::pair<int64_t, int64_t> pair(const std::string& key, int64_t low, int64_t high) const;
  Fields child(const std::string& key) const;
  std::vector<Fields> children(const std::string& key) const;
  std::string path(const std::string& key) const;  // the whole way to the field

 private:
  const Json::Object* document_;
  std::string where_;

  Failure wrong(const std::string& key, const std::string& wanted) const;
};

}  // namespace hsrt
