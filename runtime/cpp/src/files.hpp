// Reading files that strangers wrote, and writing files that nobody ever sees half done.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "hyperstyle_rt/hyperstyle_rt.h"

namespace hsrt {

// UTF-8, as the C API takes it, to a path of this system.
std::filesystem::path path_of(const char* utf8);
std::string text_of(const std::filesystem::path& path);

// Read the whole of a regular file of at most `limit` bytes; a link is followed. Directories,
// devices and pipes are refused before they are opened. Throws Failure of this status.
std::string read_regular(const std::filesystem::path& path, uint64_t limit, hsrt_status status);

// Write under a temporary name beside `path`, then rename. Throws Failure of this status.
void write_atomically(const std::filesystem::path& path, std::string_view data, hsrt_status status);

}  // namespace hsrt
