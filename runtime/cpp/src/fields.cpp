#include "fields.hpp"

#include <algorithm>
#include <set>

namespace hsrt {
namespace {

constexpr size_t kLongestName = 100;
constexpr const char* kPlainName =
    "a plain name of at most 100 letters, digits, '_', '-', '+', '.'";

bool is_letter_or_digit(char c) {  // ASCII, whatever the locale
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_integer(const Json& value, int64_t low, int64_t high) {
  if (const auto* natural = value.as<uint64_t>()) {  // may exceed int64
    return *natural <= static_cast<uint64_t>(high) && static_cast<int64_t>(*natural) >= low;
  }
  const auto* number = value.as<int64_t>();
  return number != nullptr && *number >= low && *number <= high;
}

int64_t integer_of(const Json& value) {
  if (const auto* natural = value.as<uint64_t>()) return static_cast<int64_t>(*natural);
  return std::get<int64_t>(value.value);
}

std::string range(int64_t low, int64_t high) {
  return "from " + std::to_string(low) + " to " + std::to_string(high);
}

}  // namespace

bool is_plain_name(std::string_view text) {
  if (text.empty() || text.size() > kLongestName) return false;
  if (text[0] == '.' || text[0] == '-' || text[0] == '+') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return is_letter_or_digit(c) || c == '_' || c == '.' || c == '-' || c == '+';
  });
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

Failure invalid(const std::string& problem) {
  return Failure(HSRT_ERROR_BUNDLE,
                 "the manifest " + problem + "; restore the bundle or build it again");
}

Fields::Fields(const Json& value, std::string where)
    : document_(value.as<Json::Object>()), where_(std::move(where)) {
  if (document_ == nullptr) {
    throw invalid((where_.empty() ? "file" : "field " + where_) + " must hold an object, not " +
                  shown(value));
  }
}

const Json& Fields::value(const std::string& key) const {
  const auto found = document_->find(key);
  if (found == document_->end()) throw invalid("lacks the field " + path(key));
  return found->second;
}

std::vector<std::string> Fields::keys() const {
  std::vector<std::string> keys;
  for (const auto& item : *document_) keys.push_back(item.first);
  return keys;
}

std::vector<std::string> Fields::plain_keys() const {
  for (const auto& item : *document_) {
    if (!is_plain_name(item.first)) {
      throw invalid("field " + where_ + " has the key " + shown(std::string_view(item.first)) +
                    ", not " + kPlainName);
    }
  }
  return keys();
}

std::string Fields::text(const std::string& key) const {
  const auto* found = value(key).as<std::string>();
  if (found == nullptr || found->empty()) throw wrong(key, "a text that is not empty");
  return *found;
}

std::string Fields::plain_name(const std::string& key) const {
  const auto* found = value(key).as<std::string>();
  if (found == nullptr || !is_plain_name(*found)) throw wrong(key, kPlainName);
  return *found;
}

std::vector<std::string> Fields::plain_names(const std::string& key) const {
  const auto* found = value(key).as<Json::Array>();
  std::vector<std::string> names;
  for (size_t at = 0; found != nullptr && at < found->size(); ++at) {
    const auto* name = (*found)[at].as<std::string>();
    if (name == nullptr || !is_plain_name(*name)) throw wrong(key, "a list of plain names");
    names.push_back(*name);
  }
  if (found == nullptr) throw wrong(key, "a list of plain names");
  if (std::set<std::string>(names.begin(), names.end()).size() < names.size()) {
    throw wrong(key, "a list that gives every name once");
  }
  return names;
}

std::string Fields::digest(const std::string& key) const {
  const auto* found = value(key).as<std::string>();
  if (found == nullptr || !is_sha256(*found)) throw wrong(key, "64 lower-case hexadecimal digits");
  return *found;
}

int64_t Fields::integer(const std::string& key, int64_t low, int64_t high) const {
  const Json& found = value(key);
  if (!is_integer(found, low, high)) throw wrong(key, "an integer " + range(low, high));
  return integer_of(found);
}

std::vector<int64_t> Fields::integers(const std::string& key, size_t count, int64_t low,
                                      int64_t high) const {
  const auto* found = value(key).as<Json::Array>();
  if (found == nullptr || found->size() != count) {
    throw wrong(key, "a list of " + std::to_string(count) + " integers");
  }
  std::vector<int64_t> integers;
  for (const Json& item : *found) {
    if (!is_integer(item, low, high)) {
      throw wrong(key, std::to_string(count) + " integers " + range(low, high));
    }
    integers.push_back(integer_of(item));
  }
  return integers;
}

std::pair<int64_t, int64_t> Fields::pair(const std::string& key, int64_t low, int64_t high) const {
  const std::vector<int64_t> both = integers(key, 2, low, high);
  return {both[0], both[1]};
}

Fields Fields::child(const std::string& key) const { return Fields(value(key), path(key)); }

std::vector<Fields> Fields::children(const std::string& key) const {
  const auto* found = value(key).as<Json::Array>();
  if (found == nullptr) throw wrong(key, "a list");
  std::vector<Fields> children;
  for (size_t at = 0; at < found->size(); ++at) {
    children.emplace_back((*found)[at], path(key) + "[" + std::to_string(at) + "]");
  }
  return children;
}

std::string Fields::path(const std::string& key) const {
  return where_.empty() ? key : where_ + "." + key;
}

Failure Fields::wrong(const std::string& key, const std::string& wanted) const {
  return invalid("field " + path(key) + " must be " + wanted + ", not " + shown(value(key)));
}

}  // namespace hsrt
