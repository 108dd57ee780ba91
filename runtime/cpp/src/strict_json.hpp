// Strict JSON for untrusted files, the counterpart of formats/strict_json.py: no duplicate keys, no
// NaN, no infinity, no byte order mark, no text that is not Unicode. Two readers must never see two
// different documents.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace hsrt {

// A parsed value. Not nlohmann's own, whose destructor allocates: without memory it would end the
// process. Integers are int64_t, or uint64_t where they are not negative.
struct Json {
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json>;

  std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Array, Object> value;

  // The value if it has this type, else null.
  template <typename Type>
  const Type* as() const {
    return std::get_if<Type>(&value);
  }
};

// Parse one UTF-8 document. Throws std::invalid_argument, whose text completes "the file ...".
Json parse_strict(std::string_view text);

// A value as errors show it: short and in ASCII, with nothing that moves a terminal's cursor.
std::string shown(const Json& value);
std::string shown(std::string_view text);

}  // namespace hsrt
