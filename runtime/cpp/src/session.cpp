#include "session.hpp"

#include <algorithm>
#include <cmath>

#include "failure.hpp"
#include "tensors.hpp"

namespace hsrt {
namespace {

constexpr int64_t kKeptFrom = 14;  // index of an adapted bundle's first tuned layer

std::vector<int64_t> latents_shape(const Manifest& manifest, size_t count) {
  return {static_cast<int64_t>(count), manifest.num_latents, manifest.style_width};
}

std::vector<int64_t> planes_shape(Size size, size_t count) {
  return {static_cast<int64_t>(count), 3, size.height, size.width};
}

std::vector<float> copy_of(const Values& values, const std::string& name,
                           const std::vector<int64_t>& shape) {
  const auto found = values.find(name);
  const float* floats = floats_of(found == values.end() ? nullptr : found->second, name, shape);
  size_t count = 1;
  for (const int64_t length : shape) count *= static_cast<size_t>(length);
  return std::vector<float>(floats, floats + count);
}

double mean_distance(const std::vector<float>& one, const std::vector<float>& other) {
  double sum = 0;
  for (size_t at = 0; at < one.size(); ++at) sum += std::abs(one[at] - other[at]);
  return sum / static_cast<double>(one.size());
}

Failure aborted() { return Failure(HSRT_ERROR_ABORTED, "the callback ended the inversion"); }

int iterations_of(const hsrt_invert_options& options, const Manifest& manifest) {
  if (options.iterations == HSRT_ENCODER_ONLY) return 0;
  return options.iterations == 0 ? manifest.default_iterations : options.iterations;
}

// What an inversion's codes are to a bundle. An adapted one keeps the fine layers' only: those of
// the coarse layers would undo its own shapes (see adaptation.py).
std::vector<float> kept_codes(const Matrix& codes, const Manifest& manifest) {
  std::vector<float> kept = codes.values;
  for (size_t row = 0; manifest.base && row < codes.rows; ++row) {
    if (manifest.tuned_layers[row].index >= kKeptFrom) continue;
    std::fill_n(kept.begin() + static_cast<ptrdiff_t>(row * codes.columns), codes.columns, 0.0F);
  }
  return kept;
}

// How many free offsets a tuned layer may have: one per pair of its channels.
size_t pairs_of(const TunedLayer& layer) {
  return static_cast<size_t>(layer.shape[0]) * static_cast<size_t>(layer.shape[1]);
}

size_t pairs_of(const Manifest& manifest) {
  size_t pairs = 0;
  for (const TunedLayer& layer : manifest.tuned_layers) pairs += pairs_of(layer);
  return pairs;
}

// The same of its free offsets, which check_belongs has seen.
std::vector<float> kept_channels(const std::vector<uint16_t>& channels, const Manifest& manifest) {
  std::vector<float> kept(channels.size());
  std::transform(channels.begin(), channels.end(), kept.begin(), widened);
  if (!manifest.base || kept.empty()) return kept;
  auto begin = kept.begin();
  for (const TunedLayer& layer : manifest.tuned_layers) {
    const auto end = begin + static_cast<ptrdiff_t>(pairs_of(layer));
    if (layer.index < kKeptFrom) std::fill(begin, end, 0.0F);
    begin = end;
  }
  return kept;
}

}  // namespace

void check_belongs(const InversionData& data, const Model& model) {
  const Manifest& manifest = model.manifest();
  const std::string& digest = manifest.base ? manifest.base->digest : model.digest();
  if (data.bundle_digest != digest) {
    throw Failure(HSRT_ERROR_INVERSION,
                  "the inversion was made with bundle '" + data.bundle_name + "' (" +
                      data.bundle_digest.substr(0, 12) + ") and does not belong to bundle '" +
                      manifest.name + "' (" + digest.substr(0, 12) +
                      "); use a model of its own bundle, or invert the picture with this one");
  }
  const bool fits = data.codes.rows == manifest.tuned_layers.size() &&
                    data.codes.columns == static_cast<size_t>(manifest.code_width) + 1 &&
                    data.latents.rows == static_cast<size_t>(manifest.num_latents) &&
                    data.latents.columns == static_cast<size_t>(manifest.style_width) &&
                    (data.channels.empty() || data.channels.size() == pairs_of(manifest));
  if (!fits) {
    throw Failure(
        HSRT_ERROR_INVERSION,
        "the inversion's codes, latents or free offsets have another shape than bundle '" +
            manifest.name + "' has, so it is damaged; invert the picture again");
  }
}

// One inversion on its way; see inversion.py.
class Session::Loop {
 public:
  Loop(Session& session, const std::vector<float>& image, const hsrt_invert_options& options)
      : session_(session),
        model_(*session.model_),
        manifest_(model_.manifest()),
        options_(options),
        iterations_(iterations_of(options, manifest_)),
        image_(model_.wrap(image, planes_shape(manifest_.input_size, 1))),
        codes_(manifest_.tuned_layers.size() * (static_cast<size_t>(manifest_.code_width) + 1)) {}

  void run() {
    encode();
    draw();
    while (done_ < iterations_) {
      refine();
      draw();
      report();
      if (settled()) break;
    }
  }

  Inversion result() {
    Inversion inversion{session_.model_, {}, drawn_image()};
    InversionData& data = inversion.data;
    data.latents = {static_cast<size_t>(manifest_.num_latents),
                    static_cast<size_t>(manifest_.style_width), std::move(latents_)};
    data.codes = {manifest_.tuned_layers.size(), static_cast<size_t>(manifest_.code_width) + 1,
                  std::move(codes_)};
    data.iterations = done_;
    data.bundle_name = manifest_.name;
    data.bundle_digest = model_.digest();
    check_inversion(data);
    return inversion;
  }

 private:
  Session& session_;
  const Model& model_;
  const Manifest& manifest_;
  const hsrt_invert_options& options_;
  const int iterations_;
  const Value image_;
  std::vector<float> latents_;
  std::vector<float> codes_;
  Values drawn_;               // by the generator, last
  std::vector<float> before_;  // the reconstruction before that
  int done_ = 0;

  void ask_abort() const {
    if (options_.abort != nullptr && options_.abort(options_.user) != 0) throw aborted();
  }

  void encode() {
    ask_abort();
    const Values encoded = model_.run("encoder", {{"image", image_}}, {"latents"});
    latents_ = copy_of(encoded, "latents", latents_shape(manifest_, 1));
  }

  // Draw the picture of the codes so far; it leaves the device only where somebody looks at it.
  void draw() {
    ask_abort();
    session_.expand(codes_, {});
    ask_abort();
    std::set<std::string> to_host;
    const bool may_be_last = done_ == iterations_ || options_.until > 0;
    if (may_be_last || options_.progress != nullptr) to_host.insert("image");
    if (options_.until > 0) to_host.insert("reconstruction");
    const Value latents = model_.wrap(latents_, latents_shape(manifest_, 1));
    drawn_ = session_.generate(latents, to_host);
  }

  void refine() {
    ask_abort();
    const Value codes_in = model_.wrap(codes_, codes_shape(manifest_));
    const Values refined = model_.run(
        "hypernet",
        {{"image", image_}, {"reconstruction", drawn_["reconstruction"]}, {"codes_in", codes_in}},
        {"codes"});
    codes_ = copy_of(refined, "codes", codes_shape(manifest_));
    ++done_;
  }

  void report() const {
    if (options_.progress == nullptr) return;
    const std::vector<float> image = drawn_image();
    const hsrt_progress progress = {sizeof(hsrt_progress), done_, iterations_, image.data(),
                                    codes_.data()};
    if (options_.progress(options_.user, &progress) != 0) throw aborted();
  }

  // Whether the reconstruction has come to rest, as the caller defines it.
  bool settled() {
    if (!(options_.until > 0)) return false;
    std::vector<float> now =
        copy_of(drawn_, "reconstruction", planes_shape(manifest_.input_size, 1));
    const bool rests = !before_.empty() && mean_distance(now, before_) < options_.until;
    before_ = std::move(now);
    return rests;
  }

  std::vector<float> drawn_image() const {
    return copy_of(drawn_, "image", planes_shape(manifest_.image_size, 1));
  }
};

Inversion Session::invert(const std::vector<float>& image, const hsrt_invert_options& options) {
  Loop loop(*this, image, options);
  loop.run();
  return loop.result();
}

std::vector<float> Session::render(const Inversion& inversion, const std::vector<float>& latents,
                                   size_t count) {
  const Manifest& manifest = model_->manifest();
  const InversionData& data = inversion.data;
  expand(kept_codes(data.codes, manifest), kept_channels(data.channels, manifest));
  const size_t step = latents.size() / count;
  std::vector<float> images;
  for (size_t done = 0; done < count; done += model_->batch_size()) {
    const size_t size = std::min(model_->batch_size(), count - done);
    const auto start = latents.begin() + static_cast<ptrdiff_t>(done * step);
    const std::vector<float> batch(start, start + static_cast<ptrdiff_t>(size * step));
    const Values drawn = generate(model_->wrap(batch, latents_shape(manifest, size)), {"image"});
    const std::vector<float> made =
        copy_of(drawn, "image", planes_shape(manifest.image_size, size));
    images.insert(images.end(), made.begin(), made.end());
  }
  return images;
}

void Session::expand(const std::vector<float>& codes, const std::vector<float>& channels) {
  const bool same = codes == expanded_codes_ && channels == expanded_channels_;
  if (!expanded_weights_.empty() && same) return;
  expanded_weights_.clear();  // their memory serves the next ones
  expanded_codes_ = codes;    // before the weights: what fails must not leave others beside it
  expanded_channels_ = channels;
  expanded_weights_ = model_->weights(codes, channels);
}

Values Session::generate(const Value& latents, const std::set<std::string>& to_host) {
  Values inputs = expanded_weights_;
  inputs["latents"] = latents;
  return model_->run("generator", inputs, to_host);
}

}  // namespace hsrt
