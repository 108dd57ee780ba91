// Reading untrusted files, and writing files that appear complete or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "hyperstyle_rt/hyperstyle_rt.h"

namespace hsrt {

// UTF-8, as the C API takes it, to a path of this system.
std::filesystem::path path_of(const char* utf8);
std::string text_of(const std::filesystem::path& path);

// Bytes with what keeps them: a mapped file, memory, or nothing where a caller's buffer is seen.
struct Content {
  std::string_view bytes;
  std::shared_ptr<const void> owner;
};

// What tells a file from another, and from itself after any change: a program cannot set the time
// of its status change.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t number = 0;
  uint64_t size = 0;
  int64_t modified[2] = {};  // seconds, nanoseconds
  int64_t changed[2] = {};

  bool operator==(const FileIdentity& other) const;
};

// Of the file that has this path itself; none for links, for what is no file, and on systems that
// do not tell.
std::optional<FileIdentity> identity_of(const std::filesystem::path& path);

// A regular file opened for reading. What is read is what was opened, whatever happens to its name
// meanwhile. Links are followed; directories, devices and pipes are refused before they are opened.
class OpenFile {
 public:
  // All throw Failure of this status.
  OpenFile(const std::filesystem::path& path, hsrt_status status);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  uint64_t size() const { return size_; }
  const std::optional<FileIdentity>& identity() const { return identity_; }

  // Read the whole, at most `limit` bytes; memory is taken by the file's size, not by the limit.
  std::string read(uint64_t limit) const;

  // Map the whole; where the system has no mmap, read it.
  Content map() const;

 private:
  std::filesystem::path path_;
  hsrt_status status_;
  int descriptor_;
  uint64_t size_ = 0;
  std::optional<FileIdentity> identity_;

  size_t read_some(char* block, size_t size) const;
};

// Read the whole of a regular file of at most `limit` bytes. Throws Failure of this status.
std::string read_regular(const std::filesystem::path& path, uint64_t limit, hsrt_status status);

// Write under a temporary name beside `path`, then rename. Throws Failure of this status.
void write_atomically(const std::filesystem::path& path, std::string_view data, hsrt_status status);

}  // namespace hsrt
