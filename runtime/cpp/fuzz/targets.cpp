#include "targets.hpp"

#include <cstdlib>
#include <string>

#include "failure.hpp"
#include "inversion_file.hpp"
#include "manifest.hpp"

namespace {

using namespace hsrt;

void require(bool condition) {
  if (!condition) std::abort();
}

Matrix some_average() {
  Matrix average{10, 16, std::vector<float>(160)};
  for (size_t at = 0; at < average.values.size(); ++at) {
    average.values[at] = static_cast<float>(at) / 64 - 1;
  }
  return average;
}

}  // namespace

// A manifest that is accepted keeps what the other modules count on.
void fuzz_manifest(std::string_view data) {
  try {
    const Manifest manifest = Manifest::parse(data);
    require(manifest.digest().size() == 64);
    require(!manifest.tuned_layers.empty());
    for (const auto& [role, name] : manifest.graphs) {
      require(manifest.files.count(name) == 1);
      require(name.find_first_of("/\\:") == name.npos && name[0] != '.');
    }
  } catch (const Failure&) {
  }
}

// An inversion that is accepted comes back from the file that is written of it.
void fuzz_safetensors(std::string_view data) {
  static const Matrix average = some_average();
  const auto average_of = [](const std::string&, const std::string&) { return &average; };
  try {
    const InversionData inversion = parse_inversion(data, average_of);
    const std::string written = serialize_inversion(inversion, &average);
    require(serialize_inversion(parse_inversion(written, average_of), &average) == written);
  } catch (const Failure&) {
  }
}
