// A bundle opened on a provider: its graphs run by role, tensors bound by name.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bundle.hpp"
#include "ort.hpp"

namespace hsrt {

using Value = std::shared_ptr<OrtValue>;
using Values = std::map<std::string, Value>;

struct TensorSpec {
  ONNXTensorElementDataType type;
  std::vector<int64_t> shape;  // -1: any length
};

// What a graph takes and gives.
struct Signature {
  std::map<std::string, TensorSpec> inputs;
  std::vector<std::string> outputs;
};

// Safe to share between threads; it opens graphs when they are first run, in the precision that was
// asked for. With TensorRT the graphs are the bundle's plans. It knows the roles that render:
// generator, weights and channel_offsets; which others there are depends on the bundle's methods.
class Model {
 public:
  // Opens the generator, which all tasks need, to find out now whether the provider works.
  Model(Bundle bundle, const hsrt_model_options& options);

  const Manifest& manifest() const { return bundle_.manifest(); }
  const std::string& digest() const { return bundle_.digest(); }
  const std::string& provider() const { return provider_; }
  const std::string& computed() const { return computed_; }  // as inversion files say it
  std::optional<Matrix> latent_average() const { return bundle_.latent_average(); }

  // Whether all tensors are the host's, wherever they are asked to be.
  bool is_host() const { return options_.provider == HSRT_PROVIDER_CPU; }

  // How many latents are drawn at once: few enough to keep memory flat, and on a CPU, to which a
  // batch saves little, one, so that every picture is that of a single render.
  size_t batch_size() const;

  const Signature& signature(const std::string& role) const { return opened(role).signature; }

  // Run a graph. Outputs stay on the device, except those named in `to_host`. Throws Failure
  // (HSRT_ERROR_BUNDLE) if an input is missing, or of another type or shape than the graph takes.
  Values run(const std::string& role, const Values& inputs,
             const std::set<std::string>& to_host) const;

  // The kernels of the tuned layers for codes [1,M,K+1], or none where the bundle has no codes.
  // Those of zero codes, from which every inversion starts, are kept where they are small.
  Values kernels(const std::vector<float>& codes) const;

  // The same with channel offsets [P] added, if there are some. Throws Failure (HSRT_ERROR_BUNDLE)
  // if the bundle was built without the graph, or the plan, that does it.
  Values kernels(const std::vector<float>& codes, const std::vector<float>& channel_offsets) const;

  // Zero codes; empty where the bundle has none.
  std::vector<float> zero_codes() const;

  // Wrap floats of the host, which must outlive the value.
  Value wrap(const std::vector<float>& values, const std::vector<int64_t>& shape) const;

 private:
  struct Opened {
    Owned<OrtSession> session;
    Signature signature;
  };

  std::shared_ptr<Environment> environment_;
  hsrt_model_options options_;
  int threads_;  // no more than there are CPUs
  std::string provider_;
  std::string computed_;
  Owned<OrtMemoryInfo> host_;
  Owned<OrtMemoryInfo> device_;
  Bundle bundle_;
  std::string plans_key_;     // empty: the graphs are run
  mutable std::mutex mutex_;  // guards the following
  mutable std::map<std::string, Opened> opened_;
  mutable std::mutex base_mutex_;  // guards the following
  mutable Values base_kernels_;

  const Opened& opened(const std::string& role) const;
  Opened open(const std::string& role) const;
  Owned<OrtSession> open_session(const std::string& role) const;
  Owned<OrtSession> open_in_folder(const std::string& role, const VerifiedGraph& graph) const;
  std::string precision() const;
  std::string plans_key() const;
  Values expand(const std::vector<float>& codes) const;
  void check_adds_channel_offsets() const;
};

// Of one set of offset codes.
std::vector<int64_t> codes_shape(const Manifest& manifest);

// The floats of a value on the host, which must have this shape. Throws Failure
// (HSRT_ERROR_BUNDLE): a digest says that a graph is the bundle's, not that it does what the
// manifest says.
const float* floats_of(const Value& value, const std::string& name,
                       const std::vector<int64_t>& shape);

}  // namespace hsrt
