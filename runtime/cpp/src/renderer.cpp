#include "renderer.hpp"

namespace hsrt {

void Renderer::expand(const std::vector<float>& codes, const std::vector<float>& channel_offsets) {
  if (is_expanded_ && codes == codes_ && channel_offsets == channel_offsets_) return;
  is_expanded_ = false;
  kernels_.clear();  // their memory serves the next ones
  kernels_ = model_->kernels(codes, channel_offsets);
  codes_ = codes;
  channel_offsets_ = channel_offsets;
  is_expanded_ = true;
}

Values Renderer::generate(const Value& latents, const std::set<std::string>& to_host) const {
  Values inputs = kernels_;
  inputs["latents"] = latents;
  return model_->run("generator", inputs, to_host);
}

std::vector<int64_t> latents_shape(const Manifest& manifest, size_t count) {
  return {static_cast<int64_t>(count), manifest.num_latents, manifest.latent_width};
}

std::vector<int64_t> planes_shape(Size size, size_t count) {
  return {static_cast<int64_t>(count), 3, size.height, size.width};
}

std::vector<float> copy_of(const Value& value, const std::string& name,
                           const std::vector<int64_t>& shape) {
  const float* floats = floats_of(value, name, shape);
  size_t count = 1;
  for (const int64_t length : shape) count *= static_cast<size_t>(length);
  return std::vector<float>(floats, floats + count);
}

}  // namespace hsrt
