#include "session.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "failure.hpp"
#include "phases.hpp"
#include "tensors.hpp"

namespace hsrt {
namespace {

// Index of the first tuned layer that an adapted bundle keeps; see adaptation.py.
constexpr int64_t kKeptFrom = 14;

int iterations_of(const std::string& name, const Method& method,
                  const hsrt_invert_options& options) {
  const bool iterates = method.iterating_phase() < method.phases.size();
  if (!iterates && (options.iterations != HSRT_ITERATIONS_DEFAULT || options.until > 0)) {
    throw Failure(HSRT_ERROR_ARGUMENT,
                  "the method '" + name +
                      "' does not iterate; leave hsrt_invert_options.iterations and until at 0");
  }
  if (options.iterations == HSRT_NO_ITERATIONS) return 0;
  return options.iterations == HSRT_ITERATIONS_DEFAULT ? method.iterations() : options.iterations;
}

// Whether codes are among what a method finds: it reads or writes them, or was stopped before the
// phase that would have.
bool finds_codes(const Method& method, int iterations, const Model& model) {
  if (!model.manifest().codes) return false;
  for (size_t at = 0; at < method.phases.size(); ++at) {
    if (at == method.iterating_phase() && iterations == 0) return true;
    const Signature& signature = model.signature(method.phases[at].graph);
    if (signature.inputs.count("codes") != 0) return true;
    for (const std::string& output : signature.outputs) {
      if (state_name(output) == "codes") return true;
    }
  }
  return false;
}

// A number as Python's json writes it, with as few digits as say which float it is.
std::string json_number(float value) {
  char text[64];
  int digits = 0;
  do {
    std::snprintf(text, sizeof text, "%.*e", digits++, static_cast<double>(value));
  } while (digits < 9 && std::strtof(text, nullptr) != value);
  if (value >= 1e-4F && value < 1e16F) {
    const int exponent = std::atoi(std::strchr(text, 'e') + 1);
    std::snprintf(text, sizeof text, "%.*f", std::max(digits - 1 - exponent, 1),
                  static_cast<double>(value));
  }
  std::string number = text;
  std::replace(number.begin(), number.end(), ',', '.');  // of some locales
  return number;
}

// What the caller chose, as a JSON object with sorted keys.
std::string settings_of(const Method& method, int iterations, const hsrt_invert_options& options) {
  if (method.iterating_phase() == method.phases.size()) return "{}";
  const std::string until = options.until > 0 ? ",\"until\":" + json_number(options.until) : "";
  return "{\"iterations\":" + std::to_string(iterations) + until + "}";
}

// An adapted bundle keeps what tunes the fine layers only: the coarse layers' would undo its own
// shapes. `widths` are the numbers of floats of each tuned layer.
void keep_fine_layers(std::vector<float>& values, const Manifest& manifest,
                      const std::vector<size_t>& widths) {
  if (!manifest.base || values.empty()) return;
  auto begin = values.begin();
  for (size_t row = 0; row < widths.size(); ++row) {
    const auto end = begin + static_cast<ptrdiff_t>(widths[row]);
    if (manifest.tuned_layers[row].index < kKeptFrom) std::fill(begin, end, 0.0F);
    begin = end;
  }
}

std::vector<float> codes_for(const InversionData& data, const Model& model) {
  std::vector<float> codes = data.codes.empty() ? model.zero_codes() : data.codes.values;
  const std::vector<size_t> widths(data.codes.rows, data.codes.columns);
  if (!data.codes.empty()) keep_fine_layers(codes, model.manifest(), widths);
  return codes;
}

std::vector<float> channel_offsets_for(const InversionData& data, const Manifest& manifest) {
  std::vector<float> offsets(data.channel_offsets.size());
  std::transform(data.channel_offsets.begin(), data.channel_offsets.end(), offsets.begin(),
                 widened);
  std::vector<size_t> widths;
  for (const TunedLayer& layer : manifest.tuned_layers) {
    widths.push_back(static_cast<size_t>(layer.shape[0] * layer.shape[1]));
  }
  keep_fine_layers(offsets, manifest, widths);
  return offsets;
}

}  // namespace

Inversion Session::invert(const State::TargetOfSize& target, const hsrt_invert_options& options) {
  const Manifest& manifest = model_->manifest();
  const std::string& name = manifest.method_name(options.method);
  const Method& method = manifest.methods.at(name);
  const int iterations = iterations_of(name, method, options);
  const bool has_codes = finds_codes(method, iterations, *model_);
  State state(renderer_, target, has_codes, watched_by(options),
              [&options] { ask_abort(options); });
  const int done = run_phases(method, iterations, state, options);

  Inversion inversion{model_, {}, state.rendering()};
  InversionData& data = inversion.data;
  data.latents = {static_cast<size_t>(manifest.num_latents),
                  static_cast<size_t>(manifest.latent_width), state.latents()};
  if (has_codes) {
    data.codes = {manifest.tuned_layers.size(), static_cast<size_t>(manifest.codes->width),
                  state.codes()};
    data.code_space = manifest.codes->space;
  }
  data.iterations = done;
  data.space = manifest.space;
  data.bundle_name = manifest.name;
  data.bundle_digest = model_->digest();
  data.method = name;
  data.settings = settings_of(method, iterations, options);
  data.computed = model_->computed();
  check_inversion(data);
  return inversion;
}

void Session::render(const Inversion& inversion, const float* latents, size_t count,
                     const Take& take) {
  const Manifest& manifest = model_->manifest();
  const Size image = manifest.image_size;
  renderer_.expand(codes_for(inversion.data, *model_),
                   channel_offsets_for(inversion.data, manifest));
  const size_t step = inversion.data.latents.values.size();
  const size_t picture = 3 * static_cast<size_t>(image.height) * static_cast<size_t>(image.width);
  for (size_t done = 0; done < count; done += model_->batch_size()) {
    const size_t size = std::min(model_->batch_size(), count - done);
    const float* start = latents + done * step;
    const std::vector<float> batch(start, start + size * step);
    const Value value = model_->wrap(batch, latents_shape(manifest, size));
    const Values drawn = renderer_.generate(value, {"rendering"});
    const auto found = drawn.find("rendering");
    const float* planes = floats_of(found == drawn.end() ? nullptr : found->second, "rendering",
                                    planes_shape(image, size));
    for (size_t at = 0; at < size; ++at) take(done + at, planes + at * picture);
  }
}

}  // namespace hsrt
