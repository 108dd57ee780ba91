#include "state.hpp"

#include <string_view>
#include <utility>

#include "failure.hpp"

namespace hsrt {
namespace {

constexpr std::string_view kNext = "_next";

// What the host reads itself, whatever gives it.
const std::set<std::string> kReadByHost = {"latents", "codes", "rendering", "reconstruction"};

}  // namespace

std::string state_name(const std::string& output) {
  const size_t stem = output.size() < kNext.size() ? 0 : output.size() - kNext.size();
  return stem > 0 && output.compare(stem, kNext.size(), kNext) == 0 ? output.substr(0, stem)
                                                                    : output;
}

State::State(Renderer& renderer, TargetOfSize target, bool has_codes, std::set<std::string> watched,
             std::function<void()> before_run)
    : renderer_(renderer),
      model_(renderer.model()),
      manifest_(model_.manifest()),
      target_(std::move(target)),
      has_codes_(has_codes),
      watched_(std::move(watched)),
      before_run_(std::move(before_run)) {
  if (manifest_.codes) tensors_["codes"] = wrap(model_.zero_codes(), codes_shape(manifest_));
}

void State::run(const std::string& graph) {
  const Signature& signature = model_.signature(graph);
  Values inputs;
  for (const auto& [name, spec] : signature.inputs) inputs[name] = read(graph, name, spec);
  std::set<std::string> to_host;
  for (const std::string& name : signature.outputs) {
    if (kReadByHost.count(state_name(name)) != 0) to_host.insert(name);
  }
  before_run_();
  replace(model_.run(graph, inputs, to_host));
}

std::vector<float> State::latents() {
  start_latents();
  return copy_of(tensors_.at("latents"), "latents", latents_shape(manifest_, 1));
}

std::vector<float> State::all_codes() const {
  if (!manifest_.codes) return {};
  return copy_of(tensors_.at("codes"), "codes", codes_shape(manifest_));
}

Value State::wrap(std::vector<float> floats, const std::vector<int64_t>& shape) {
  floats_.push_back(std::move(floats));
  return model_.wrap(floats_.back(), shape);
}

Value State::read(const std::string& graph, const std::string& name, const TensorSpec& spec) {
  if (name == "target") return target(graph, spec);
  if (name == "latents") start_latents();
  const bool is_rendered = name == "rendering" || name == "reconstruction";
  if (is_rendered && tensors_.count(name) == 0) render({});
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  throw Failure(HSRT_ERROR_BUNDLE, "the graph '" + graph + "' reads the tensor '" + name +
                                       "', which no phase before it has given; build the bundle "
                                       "again");
}

Value State::target(const std::string& graph, const TensorSpec& spec) {
  const size_t rank = spec.shape.size();
  if (rank != 4 || spec.shape[2] < 1 || spec.shape[3] < 1) {
    throw Failure(HSRT_ERROR_BUNDLE, "the graph '" + graph +
                                         "' does not say in which size it takes pictures; build "
                                         "the bundle again");
  }
  const Size size = {static_cast<int>(spec.shape[2]), static_cast<int>(spec.shape[3])};
  const auto found = targets_.find(size);
  if (found != targets_.end()) return found->second;
  return targets_[size] = wrap(target_(size), planes_shape(size, 1));
}

void State::start_latents() {
  if (tensors_.count("latents") != 0) return;
  std::optional<Matrix> average = model_.latent_average();
  if (!average) {
    throw Failure(HSRT_ERROR_BUNDLE, "bundle '" + manifest_.name +
                                         "' has no average latent for its method to start from; "
                                         "build it again");
  }
  tensors_["latents"] = wrap(std::move(average->values), latents_shape(manifest_, 1));
}

void State::replace(const Values& outputs) {
  Values written;
  for (const auto& [name, value] : outputs) written[state_name(name)] = value;
  if (written.count("latents") != 0 || written.count("codes") != 0) {
    tensors_.erase("rendering");
    tensors_.erase("reconstruction");
    on_host_.clear();
  }
  for (const auto& [name, value] : written) {
    tensors_[name] = value;
    on_host_.insert(name);
  }
}

void State::render(std::set<std::string> to_host) {
  to_host.insert(watched_.begin(), watched_.end());
  const std::vector<float> codes_so_far = all_codes();
  start_latents();
  before_run_();
  renderer_.expand(codes_so_far, {});
  before_run_();
  for (const auto& [name, value] : renderer_.generate(tensors_.at("latents"), to_host)) {
    if (tensors_.count(name) != 0 && on_host_.count(name) != 0) continue;  // a phase's own stays
    tensors_[name] = value;
    if (model_.is_host() || to_host.count(name) != 0) on_host_.insert(name);
  }
}

std::vector<float> State::pictures(const std::string& name, Size size) {
  if (tensors_.count(name) == 0 || on_host_.count(name) == 0) render({name});
  return copy_of(tensors_[name], name, planes_shape(size, 1));
}

}  // namespace hsrt
