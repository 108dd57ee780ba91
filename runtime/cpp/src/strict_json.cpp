#include "strict_json.hpp"

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

namespace hsrt {
namespace {

constexpr size_t kLongestInteger = 20;   // digits of 2**63 and a sign
constexpr size_t kDeepestNesting = 900;  // about where Python's reader gives up
constexpr size_t kLongestShown = 30;
constexpr size_t kMostShown = 6;  // items of a list

std::string too_large(const std::string& number) {
  return "holds the number " + number.substr(0, 20) + "..., which is too large";
}

// Builds the document while nlohmann's parser reads it, refusing what that would let pass.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Json document{};

  bool null() override { return add({nullptr}); }
  bool boolean(bool value) override { return add({value}); }
  bool number_integer(number_integer_t value) override { return add({value}); }
  bool number_unsigned(number_unsigned_t value) override { return add({value}); }
  bool string(string_t& value) override { return add({std::move(value)}); }
  bool binary(binary_t&) override { return false; }

  bool number_float(number_float_t value, const string_t& text) override {
    // Integers beyond 64 bits arrive here, too.
    if (text.find_first_of(".eE") == text.npos && text.size() > kLongestInteger) {
      throw std::invalid_argument(too_large(text));
    }
    return add({value});
  }

  bool start_object(size_t) override { return open({Json::Object()}); }
  bool start_array(size_t) override { return open({Json::Array()}); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (std::get<Json::Object>(open_.back()->value).count(name) != 0) {
      throw std::invalid_argument("gives the key " + shown(std::string_view(name)) + " twice");
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t at, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    if (error.id == 406) {  // nlohmann: number overflow
      throw std::invalid_argument("holds the number " + token.substr(0, 20) +
                                  ", which is too large");
    }
    const std::string what = error.what();
    for (const char* utf8 : {"ill-formed UTF-8", "surrogate"}) {
      if (what.find(utf8) != what.npos) throw std::invalid_argument("is not UTF-8 text");
    }
    throw std::invalid_argument("is not JSON (wrong at byte " + std::to_string(at) + ")");
  }

 private:
  std::vector<Json*> open_;
  std::string key_;

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  Json* place(Json value) {
    if (open_.empty()) {
      document = std::move(value);
      return &document;
    }
    if (auto* array = std::get_if<Json::Array>(&open_.back()->value)) {
      array->push_back(std::move(value));
      return &array->back();
    }
    auto& object = std::get<Json::Object>(open_.back()->value);
    return &(object[std::move(key_)] = std::move(value));
  }

  bool open(Json empty) {
    if (open_.size() == kDeepestNesting) throw std::invalid_argument("is nested too deeply");
    open_.push_back(place(std::move(empty)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }
};

}  // namespace

Json parse_strict(std::string_view text) {
  // Both of these nlohmann would pass over: the first in silence, the second as an end.
  if (text.substr(0, 3) == "\xef\xbb\xbf") {
    throw std::invalid_argument("is not JSON (it begins with a byte order mark)");
  }
  if (text.find('\0') != text.npos) throw std::invalid_argument("is not JSON (it holds a NUL)");
  Builder builder;
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder.document);
}

std::string shown(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text.substr(0, kLongestShown)) {
    if (const auto byte = static_cast<unsigned char>(c); byte < 0x20 || byte >= 0x7f) {
      const char* digits = "0123456789abcdef";
      quoted += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
    } else {
      if (c == '\\' || c == '\'') quoted += '\\';
      quoted += c;
    }
  }
  return quoted + (text.size() > kLongestShown ? "...'" : "'");
}

std::string shown(const Json& value) {
  if (const auto* text = value.as<std::string>()) return shown(std::string_view(*text));
  if (const auto* flag = value.as<bool>()) return *flag ? "true" : "false";
  if (const auto* number = value.as<int64_t>()) return std::to_string(*number);
  if (const auto* number = value.as<uint64_t>()) return std::to_string(*number);
  if (const auto* number = value.as<double>()) return std::to_string(*number);
  if (value.as<Json::Object>() != nullptr) return "an object";
  const auto* array = value.as<Json::Array>();
  if (array == nullptr) return "null";
  std::string items;
  for (size_t at = 0; at < array->size() && at < kMostShown; ++at) {
    const Json& item = (*array)[at];
    const bool nested = item.as<Json::Array>() != nullptr;
    items += (at == 0 ? "" : ", ") + (nested ? "[...]" : shown(item));
  }
  return "[" + items + (array->size() > kMostShown ? ", ...]" : "]");
}

}  // namespace hsrt
