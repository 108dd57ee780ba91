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

}  // namespace

// A manifest that is accepted keeps what the other modules count on.
void fuzz_manifest(std::string_view data) {
  try {
    const Manifest manifest = Manifest::parse(data);
    require(manifest.digest().size() == 64);
    require(manifest.tuned_layers.empty() == (manifest.graphs.count("weights") == 0));
    for (const auto& [role, graph] : manifest.graphs) {
      require(manifest.files.count(graph.file) == 1);
      require(graph.file.find_first_of("/\\:") == graph.file.npos && graph.file[0] != '.');
      for (const std::string& name : graph.data) require(manifest.files.count(name) == 1);
    }
    for (const auto& [name, method] : manifest.methods) {
      require(manifest.method_name(name.c_str()) == name);
      for (const Phase& phase : method.phases) require(manifest.graphs.count(phase.graph) == 1);
    }
  } catch (const Failure&) {
  }
}

// An inversion that is accepted comes back from the file that is written of it.
void fuzz_safetensors(std::string_view data) {
  try {
    const InversionData inversion = parse_inversion(data);
    const std::string written = serialize_inversion(inversion);
    require(serialize_inversion(parse_inversion(written)) == written);
  } catch (const Failure&) {
  }
}
