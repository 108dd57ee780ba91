#include "files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#ifdef _WIN32
#include <io.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <new>
#include <random>
#include <system_error>

#include "failure.hpp"

namespace hsrt {
namespace fs = std::filesystem;
namespace {

constexpr size_t kReadAtOnce = 1 << 20;

#ifdef _WIN32
using Status = struct _stat64;
constexpr unsigned kFileType = _S_IFMT;
constexpr unsigned kRegular = _S_IFREG;
int open_file(const fs::path& path) {
  return _wopen(path.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT);
}
int status_of(int descriptor, Status& status) { return _fstat64(descriptor, &status); }
void close_file(int descriptor) { _close(descriptor); }
#else
using Status = struct stat;
constexpr unsigned kFileType = S_IFMT;
constexpr unsigned kRegular = S_IFREG;
int open_file(const fs::path& path) {
  // Should a pipe have taken the file's place, opening it must not wait for a writer.
  return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}
int status_of(int descriptor, Status& status) { return ::fstat(descriptor, &status); }
void close_file(int descriptor) { ::close(descriptor); }
#endif

#ifdef __linux__
std::optional<FileIdentity> identity_of(const Status& status) {
  FileIdentity identity;
  identity.device = status.st_dev;
  identity.number = status.st_ino;
  identity.size = static_cast<uint64_t>(status.st_size);
  identity.modified[0] = status.st_mtim.tv_sec;
  identity.modified[1] = status.st_mtim.tv_nsec;
  identity.changed[0] = status.st_ctim.tv_sec;
  identity.changed[1] = status.st_ctim.tv_nsec;
  return identity;
}
#else
std::optional<FileIdentity> identity_of(const Status&) { return std::nullopt; }
#endif

std::string last_reason() { return std::error_code(errno, std::generic_category()).message(); }

// A unique temporary name, hidden like Python's.
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

bool FileIdentity::operator==(const FileIdentity& other) const {
  return device == other.device && number == other.number && size == other.size &&
         std::equal(modified, modified + 2, other.modified) &&
         std::equal(changed, changed + 2, other.changed);
}

std::optional<FileIdentity> identity_of(const fs::path& path) {
#ifdef __linux__
  Status status = {};
  if (::lstat(path.c_str(), &status) == 0 && (status.st_mode & kFileType) == kRegular) {
    return identity_of(status);
  }
#else
  static_cast<void>(path);
#endif
  return std::nullopt;
}

OpenFile::OpenFile(const fs::path& path, hsrt_status status) : path_(path), status_(status) {
  const auto refuse = [&](const std::string& problem) {
    throw Failure(status, text_of(path) + problem);
  };
  const std::string not_regular = " is not a regular file; give a file, or a link to one";
  std::error_code error;
  const fs::file_status found = fs::status(path, error);
  if (!fs::exists(found)) {
    throw Failure(status, "cannot find " + text_of(path) + " (" + error.message() +
                              "); give the right path, or restore the file");
  }
  if (!fs::is_regular_file(found)) refuse(not_regular);
  descriptor_ = open_file(path);
  if (descriptor_ < 0) {
    throw Failure(
        status, "cannot read " + text_of(path) + " (" + last_reason() + "); check its permissions");
  }
  Status opened = {};
  if (status_of(descriptor_, opened) != 0 || (opened.st_mode & kFileType) != kRegular) {
    close_file(descriptor_);
    refuse(not_regular);
  }
  size_ = static_cast<uint64_t>(opened.st_size);
  identity_ = identity_of(opened);
}

OpenFile::~OpenFile() { close_file(descriptor_); }

size_t OpenFile::read_some(char* block, size_t size) const {
  for (;;) {
#ifdef _WIN32
    const int64_t count = _read(descriptor_, block, static_cast<unsigned>(size));
#else
    const int64_t count = ::read(descriptor_, block, size);
#endif
    if (count >= 0) return static_cast<size_t>(count);
    if (errno == EINTR) continue;
    throw Failure(status_, "cannot read " + text_of(path_) + " (" + last_reason() +
                               "); check its permissions");
  }
}

std::string OpenFile::read(uint64_t limit) const {
  const auto check = [&](uint64_t size) {
    if (size <= limit) return;
    throw Failure(status_, text_of(path_) + " is larger than " + std::to_string(limit) +
                               " bytes, so it is not the kind of file expected");
  };
  check(size_);
  std::string data;
  data.reserve(size_ + 1);  // one more, so that the end is found without growing
  for (;;) {
    const size_t known = data.size();
    const size_t room = std::max<size_t>(data.capacity() - known, 1);
    data.resize(known + std::min(room, kReadAtOnce));
    const size_t count = read_some(&data[known], data.size() - known);
    data.resize(known + count);
    check(data.size());
    if (count == 0) return data;
  }
}

Content OpenFile::map() const {
#ifdef _WIN32
  auto data = std::make_shared<const std::string>(read(size_));
  return {*data, data};
#else
  if (size_ == 0) return {};
  void* memory = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (memory == MAP_FAILED) {
    if (errno == ENOMEM) throw std::bad_alloc();
    throw Failure(status_, "cannot map " + text_of(path_) + " (" + last_reason() +
                               "); check the filesystem it is on");
  }
  const uint64_t size = size_;
  const auto unmap = [size](void* mapped) { ::munmap(mapped, size); };
  return {{static_cast<const char*>(memory), size}, std::shared_ptr<void>(memory, unmap)};
#endif
}

std::string read_regular(const fs::path& path, uint64_t limit, hsrt_status status) {
  return OpenFile(path, status).read(limit);
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
