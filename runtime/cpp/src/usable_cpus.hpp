// How many threads are worth having.
#pragma once

#include <filesystem>

namespace hsrt {

// CPUs that this process may use at a time, at least 1: those of its affinity mask, at most what
// the CPU quotas (version 1 and 2) of its control groups give, rounded up. `root` is replaced by
// tests only.
int usable_cpus(const std::filesystem::path& root = "/");

}  // namespace hsrt
