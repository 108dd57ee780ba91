// Give the fuzzers' corpus to their targets, with any compiler.
//
//     fuzz_replay MANIFESTS SAFETENSORS          (two folders)
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "../../runtime/cpp/fuzz/targets.hpp"
#include "check.hpp"

namespace {

size_t replay(const std::string& folder, void (*target)(std::string_view)) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    target(content);
    ++count;
  }
  return count;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  CHECK(replay(arguments[1], fuzz_manifest) > 0);
  CHECK(replay(arguments[2], fuzz_safetensors) > 0);
  return outcome();
}
