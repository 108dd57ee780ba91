// Latents and kernels to pictures; see rendering.py.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"

namespace hsrt {

// One thread's. It keeps the kernels of the face drawn last: a slider of edits expands them once.
class Renderer {
 public:
  explicit Renderer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  const Model& model() const { return *model_; }

  // Have the kernels of codes [M,K+1] and of channel offsets [P] at hand; both may be empty.
  void expand(const std::vector<float>& codes, const std::vector<float>& channel_offsets);

  // Draw latents [N,L,W] with them: `rendering` and `reconstruction`, on the device but for those
  // named in `to_host`.
  Values generate(const Value& latents, const std::set<std::string>& to_host) const;

 private:
  std::shared_ptr<const Model> model_;
  bool is_expanded_ = false;
  std::vector<float> codes_;
  std::vector<float> channel_offsets_;
  Values kernels_;
};

std::vector<int64_t> latents_shape(const Manifest& manifest, size_t count);
std::vector<int64_t> planes_shape(Size size, size_t count);

// The floats of a value on the host, which must have this shape; see floats_of.
std::vector<float> copy_of(const Value& value, const std::string& name,
                           const std::vector<int64_t>& shape);

}  // namespace hsrt
