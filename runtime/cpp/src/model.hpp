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

// Safe to share between threads; it opens graphs when they are first run, in the precision that was
// asked for. With TensorRT the graphs are the bundle's plans.
class Model {
 public:
  // Opens the generator, which all tasks need, to find out now whether the provider works.
  Model(Bundle bundle, const hsrt_model_options& options);

  const Manifest& manifest() const { return bundle_.manifest(); }
  const std::string& digest() const { return bundle_.digest(); }
  const Matrix* latent_average() const { return average_ ? &*average_ : nullptr; }
  const std::string& provider() const { return provider_; }

  // How many latents are drawn at once: few enough to keep memory flat, and on a CPU, to which a
  // batch saves little, one, so that every picture is that of a single render.
  size_t batch_size() const;

  // Run a graph. Outputs stay on the device, except those named in `to_host`.
  Values run(const std::string& role, const Values& inputs,
             const std::set<std::string>& to_host) const;

  // Expand codes [1,M,K+1] to the tuned convolutions' weights. Those of the codes 0, from which
  // every inversion starts, are kept where they are small.
  Values weights(const std::vector<float>& codes) const;

  // The same with free offsets [P] added, if there are some. Throws Failure (HSRT_ERROR_BUNDLE) if
  // the bundle was built without the graph, or the plan, that does it.
  Values weights(const std::vector<float>& codes, const std::vector<float>& channels) const;

  // Wrap floats of the host, which must outlive the value.
  Value wrap(const std::vector<float>& values, const std::vector<int64_t>& shape) const;

 private:
  struct Opened {
    Owned<OrtSession> session;
    std::vector<std::string> outputs;
  };

  Environment environment_;
  hsrt_model_options options_;
  std::string provider_;
  Owned<OrtMemoryInfo> host_;
  Owned<OrtMemoryInfo> device_;
  std::optional<Matrix> average_;
  std::string plans_key_;     // empty: the graphs are run
  mutable std::mutex mutex_;  // guards the following
  mutable Bundle bundle_;
  mutable std::map<std::string, Opened> opened_;
  mutable std::mutex base_mutex_;  // guards the following
  mutable Values base_weights_;

  const Opened& opened(const std::string& role) const;
  Opened open(const std::string& role) const;
  std::string precision() const;
  std::string plans_key() const;
  Values expand(const std::vector<float>& codes) const;
  void check_renders_refined() const;
};

// Of one set of offset codes.
std::vector<int64_t> codes_shape(const Manifest& manifest);

// The floats of a value on the host, which must have this shape. Throws Failure
// (HSRT_ERROR_BUNDLE): a digest says that a graph is the bundle's, not that it does what the
// manifest says.
const float* floats_of(const Value& value, const std::string& name,
                       const std::vector<int64_t>& shape);

}  // namespace hsrt
