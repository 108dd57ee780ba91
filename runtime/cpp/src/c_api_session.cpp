// The C functions of sessions and inversions.
#include <cmath>
#include <cstring>

#include "boundary.hpp"
#include "checks.hpp"
#include "files.hpp"
#include "handles.hpp"
#include "imaging.hpp"

namespace {

using namespace hsrt;

constexpr size_t kTransformSize = 9;
constexpr size_t kMaxBatch = 4096;  // pictures of one call

hsrt_invert_options checked_options(const hsrt_invert_options* given_options) {
  hsrt_invert_options options = {};
  if (given_options == nullptr) return options;
  options = checked_struct(*given_options, "hsrt_invert_options");
  check_range("hsrt_invert_options.iterations", options.iterations, HSRT_NO_ITERATIONS,
              kMaxIterations);
  if (!(options.until >= 0) || std::isinf(options.until)) {  // which no inversion file can hold
    throw bad_argument("hsrt_invert_options.until must be a finite number of at least 0");
  }
  return options;
}

void check_output(const hsrt_image& image, Size size) {
  check_image(image);
  if (image.width != size.width || image.height != size.height) {
    throw Failure(HSRT_ERROR_PICTURE,
                  "the image to write to must have the model's image size, " +
                      std::to_string(size.width) + " x " + std::to_string(size.height) + ", not " +
                      std::to_string(image.width) + " x " + std::to_string(image.height));
  }
}

// Not by check_range, whose numbers do not hold every size_t.
void check_count(size_t count, const float* latents) {
  if (count >= 1 && count <= (latents == nullptr ? 1 : kMaxBatch)) return;
  const std::string range =
      latents == nullptr ? "1 where latents is NULL" : "from 1 to " + std::to_string(kMaxBatch);
  throw bad_argument("count must be " + range + ", not " + std::to_string(count));
}

// The inversion, once it is known that the session's model can draw it.
const Inversion& checked_inversion(hsrt_session* session, const hsrt_inversion* inversion) {
  given(session, "session");
  const Inversion& face = given(inversion, "inversion").inversion;
  check_fits(face.data, session->model->manifest());
  return face;
}

// Draw the latents [count,L,W] into images that are checked first: a run is expensive.
void render(hsrt_session& session, const Inversion& inversion, const float* latents, size_t count,
            const hsrt_image* images) {
  const Size size = session.model->manifest().image_size;
  for (size_t at = 0; at < count; ++at) check_output(images[at], size);
  session.session.render(inversion, latents, count, [&](size_t at, const float* planes) {
    write_image(planes, size, images[at]);
  });
}

hsrt_inversion* parse(std::shared_ptr<const Model> model, std::string_view content) {
  InversionData data = parse_inversion(content);
  check_fits(data, model->manifest());
  return new hsrt_inversion{{std::move(model), std::move(data), {}}};
}

std::string serialized(const hsrt_inversion& inversion) {
  return serialize_inversion(inversion.inversion.data);
}

}  // namespace

hsrt_status hsrt_session_create(hsrt_model* model, hsrt_session** session) noexcept {
  return guarded([&] {
    given(session, "session");
    const std::shared_ptr<const Model>& shared = given(model, "model").model;
    *session = new hsrt_session{Session(shared), shared};
  });
}

hsrt_status hsrt_session_invert(hsrt_session* session, const hsrt_image* picture,
                                const hsrt_invert_options* options,
                                hsrt_inversion** inversion) noexcept {
  return guarded([&] {
    given(session, "session");
    check_image(given(picture, "picture"));
    given(inversion, "inversion");
    const hsrt_invert_options checked = checked_options(options);
    const auto target = [picture](Size size) { return to_input(*picture, size); };
    *inversion = new hsrt_inversion{session->session.invert(target, checked)};
  });
}

hsrt_status hsrt_session_render(hsrt_session* session, const hsrt_inversion* inversion,
                                const float* latents, size_t count,
                                const hsrt_image* images) noexcept {
  return guarded([&] {
    const Inversion& face = checked_inversion(session, inversion);
    given(images, "images");
    check_count(count, latents);
    const float* drawn = latents == nullptr ? face.data.latents.values.data() : latents;
    render(*session, face, drawn, count, images);
  });
}

hsrt_status hsrt_session_edit(hsrt_session* session, const hsrt_inversion* inversion,
                              const float* direction, size_t size, float strength,
                              const hsrt_image* image) noexcept {
  return guarded([&] {
    const Inversion& face = checked_inversion(session, inversion);
    given(direction, "direction");
    given(image, "image");
    if (!std::isfinite(strength)) throw bad_argument("strength must be a finite number");
    const Matrix& latents = face.data.latents;
    if (size != latents.columns && size != latents.values.size()) {
      throw bad_argument("size must be " + std::to_string(latents.columns) + " (one row) or " +
                         std::to_string(latents.values.size()) + " (all rows), not " +
                         std::to_string(size));
    }
    std::vector<float> edited = latents.values;
    for (size_t at = 0; at < edited.size(); ++at) edited[at] += strength * direction[at % size];
    render(*session, face, edited.data(), 1, image);
  });
}

void hsrt_session_free(hsrt_session* session) noexcept { delete session; }

hsrt_status hsrt_inversion_load(const hsrt_model* model, const char* path,
                                hsrt_inversion** inversion) noexcept {
  return guarded([&] {
    const std::shared_ptr<const Model>& shared = given(model, "model").model;
    given(path, "path");
    given(inversion, "inversion");
    const std::string content =
        read_regular(path_of(path), kMaxInversionFile, HSRT_ERROR_INVERSION);
    try {
      *inversion = parse(shared, content);
    } catch (const Failure& failure) {
      throw Failure(failure.status(), std::string(path) + ": " + failure.text());
    }
  });
}

hsrt_status hsrt_inversion_load_memory(const hsrt_model* model, const void* data, size_t size,
                                       hsrt_inversion** inversion) noexcept {
  return guarded([&] {
    const std::shared_ptr<const Model>& shared = given(model, "model").model;
    if (data == nullptr) throw bad_argument("data must not be NULL");
    given(inversion, "inversion");
    if (size > kMaxInversionFile) {
      throw Failure(HSRT_ERROR_INVERSION, "the buffer is larger than any inversion file");
    }
    *inversion = parse(shared, {static_cast<const char*>(data), size});
  });
}

hsrt_status hsrt_inversion_save(const hsrt_inversion* inversion, const char* path) noexcept {
  return guarded([&] {
    given(path, "path");
    write_atomically(path_of(path), serialized(given(inversion, "inversion")),
                     HSRT_ERROR_INVERSION);
  });
}

hsrt_status hsrt_inversion_save_memory(const hsrt_inversion* inversion, void* buffer,
                                       size_t capacity, size_t* size) noexcept {
  return guarded([&] {
    given(size, "size");
    const std::string content = serialized(given(inversion, "inversion"));
    *size = content.size();
    if (buffer == nullptr) return;
    if (capacity < content.size()) {
      throw bad_argument("the buffer holds " + std::to_string(capacity) + " bytes where " +
                         std::to_string(content.size()) + " are needed");
    }
    std::memcpy(buffer, content.data(), content.size());
  });
}

hsrt_status hsrt_inversion_image(const hsrt_inversion* inversion,
                                 const hsrt_image* image) noexcept {
  return guarded([&] {
    const Inversion& face = given(inversion, "inversion").inversion;
    const Size size = face.model->manifest().image_size;
    check_output(given(image, "image"), size);
    if (face.output.empty()) {
      throw Failure(HSRT_ERROR_INVERSION,
                    "an inversion read from a file has no picture; draw it with "
                    "hsrt_session_render");
    }
    write_image(face.output.data(), size, *image);
  });
}

const float* hsrt_inversion_latents(const hsrt_inversion* inversion) noexcept {
  return inversion == nullptr ? nullptr : inversion->inversion.data.latents.values.data();
}

const float* hsrt_inversion_codes(const hsrt_inversion* inversion) noexcept {
  if (inversion == nullptr || inversion->inversion.data.codes.empty()) return nullptr;
  return inversion->inversion.data.codes.values.data();
}

const char* hsrt_inversion_method(const hsrt_inversion* inversion) noexcept {
  return inversion == nullptr ? nullptr : inversion->inversion.data.method.c_str();
}

int32_t hsrt_inversion_iterations(const hsrt_inversion* inversion) noexcept {
  return inversion == nullptr ? -1 : inversion->inversion.data.iterations;
}

const float* hsrt_inversion_transform(const hsrt_inversion* inversion) noexcept {
  if (inversion == nullptr || inversion->inversion.data.transform.empty()) return nullptr;
  return inversion->inversion.data.transform.data();
}

hsrt_status hsrt_inversion_set_transform(hsrt_inversion* inversion,
                                         const float* transform) noexcept {
  return guarded([&] {
    InversionData& data = given(inversion, "inversion").inversion.data;
    InversionData changed = data;
    changed.transform.clear();
    if (transform != nullptr) changed.transform.assign(transform, transform + kTransformSize);
    check_inversion(changed);
    data = std::move(changed);
  });
}

size_t hsrt_inversion_channel_offset_count(const hsrt_inversion* inversion) noexcept {
  return inversion == nullptr ? 0 : inversion->inversion.data.channel_offsets.size();
}

void hsrt_inversion_free(hsrt_inversion* inversion) noexcept { delete inversion; }
