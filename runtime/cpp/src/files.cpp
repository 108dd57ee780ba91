#include "files.hpp"

#include <fstream>
#include <random>
#include <system_error>

#include "failure.hpp"

namespace hsrt {
namespace fs = std::filesystem;
namespace {

// A name nobody else uses, hidden like Python's.
std::string temporary_name() {
  std::random_device random;
  std::string name = ".";
  for (int word = 0; word < 4; ++word) {
    const uint32_t bits = random();
    for (int digit = 0; digit < 8; ++digit) name += "0123456789abcdef"[(bits >> 4 * digit) & 15];
  }
  return name + ".part";
}

// Removes the temporary file unless it has been renamed away.
class Temporary {
 public:
  explicit Temporary(fs::path path) : path_(std::move(path)) {}
  ~Temporary() {
    std::error_code ignored;
    fs::remove(path_, ignored);
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

fs::path path_of(const char* utf8) { return fs::u8path(utf8); }

std::string text_of(const fs::path& path) { return path.u8string(); }

std::string read_regular(const fs::path& path, uint64_t limit, hsrt_status status) {
  std::error_code error;
  const fs::file_status found = fs::status(path, error);
  if (found.type() == fs::file_type::not_found || found.type() == fs::file_type::none) {
    throw Failure(status, "cannot read " + text_of(path) + ": " + error.message());
  }
  if (!fs::is_regular_file(found)) {
    throw Failure(status, text_of(path) + " is not a regular file; give the path of a file");
  }
  std::ifstream file(path, std::ios::binary);
  std::string data;
  char block[1 << 16];
  while (file.read(block, sizeof block), file.gcount() > 0) {
    data.append(block, static_cast<size_t>(file.gcount()));
    if (data.size() > limit) {
      throw Failure(status, text_of(path) + " is larger than " + std::to_string(limit) +
                                " bytes, so it is not the kind of file expected");
    }
  }
  if (!file.eof()) {
    throw Failure(status, "cannot read " + text_of(path) + "; check its permissions");
  }
  return data;
}

void write_atomically(const fs::path& path, std::string_view data, hsrt_status status) {
  const Temporary temporary(path.parent_path() / temporary_name());
  std::ofstream file(temporary.path(), std::ios::binary);
  file.write(data.data(), static_cast<std::streamsize>(data.size()));
  file.close();
  if (!file) {
    throw Failure(status, "cannot write " + text_of(path) +
                              "; check that its folder exists, may be written to and is not full");
  }
  std::error_code error;
  fs::rename(temporary.path(), path, error);
  if (error) {
    throw Failure(status, "cannot write " + text_of(path) + ": " + error.message());
  }
}

}  // namespace hsrt
