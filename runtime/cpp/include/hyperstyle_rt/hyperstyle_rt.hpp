// hyperstyle-rt for C++17: RAII over the C API. Header only; the C header is the manual.
//
//     hyperstyle_rt::Model model("engines/ffhq");
//     hyperstyle_rt::Session session(model);                       // one per thread
//     hyperstyle_rt::Inversion face = session.invert({pixels, width, height});
//     face.save("face.safetensors");
//     session.render(face, {result, model.info().image_width, model.info().image_height});
//
// Objects are moved, not copied, and may be destroyed in any order. A moved-from object may only be
// assigned to or destroyed. Failures throw hyperstyle_rt::Error.
#pragma once

#include <hyperstyle_rt/hyperstyle_rt.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace hyperstyle_rt {

/// What a call failed with: what() is one sentence that says what is wrong and how to mend it.
class Error : public std::runtime_error {
 public:
  Error(hsrt_status status, const char* text) : std::runtime_error(text), status_(status) {}
  hsrt_status status() const noexcept { return status_; }

 private:
  hsrt_status status_;
};

/// Throw Error unless a status of the C API is HSRT_OK.
inline void check(hsrt_status status) {
  if (status != HSRT_OK) throw Error(status, hsrt_last_error());
}

/// A view of contiguous elements, as std::span will be.
template <typename Type>
class Span {
 public:
  constexpr Span() noexcept = default;
  constexpr Span(Type* data, size_t size) noexcept : data_(data), size_(size) {}
  /// Of a container with data() and size(), which must outlive the view.
  template <typename Container,
            typename = decltype(static_cast<Type*>(std::declval<Container&>().data()))>
  constexpr Span(Container& container) noexcept
      : data_(container.data()), size_(container.size()) {}

  constexpr Type* data() const noexcept { return data_; }
  constexpr size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr Type* begin() const noexcept { return data_; }
  constexpr Type* end() const noexcept { return data_ + size_; }
  constexpr Type& operator[](size_t at) const noexcept { return data_[at]; }

 private:
  Type* data_ = nullptr;
  size_t size_ = 0;
};

/// A picture in the caller's memory, to be read.
struct ConstImage : hsrt_image {
  ConstImage(const void* pixels, int32_t pixels_wide, int32_t pixels_high,
             hsrt_format pixel_format = HSRT_RGB8, ptrdiff_t bytes_per_row = 0) noexcept
      : hsrt_image{sizeof(hsrt_image), const_cast<void*>(pixels),
                   pixels_wide,        pixels_high,
                   pixel_format,       bytes_per_row} {}
};

/// A picture in the caller's memory, to be written.
struct Image : hsrt_image {
  Image(void* pixels, int32_t pixels_wide, int32_t pixels_high,
        hsrt_format pixel_format = HSRT_RGB8, ptrdiff_t bytes_per_row = 0) noexcept
      : hsrt_image{sizeof(hsrt_image), pixels,       pixels_wide,
                   pixels_high,        pixel_format, bytes_per_row} {}
};
static_assert(sizeof(Image) == sizeof(hsrt_image), "an array of one is an array of the other");

/// hsrt_model_options with struct_size set and defaults everywhere.
struct ModelOptions : hsrt_model_options {
  ModelOptions() noexcept : hsrt_model_options{} { struct_size = sizeof(hsrt_model_options); }
};

/// How to invert; see hsrt_invert_options. Exceptions of the functions end the call and reach its
/// caller.
struct InvertOptions {
  std::string method;  ///< empty: the bundle's default
  int32_t iterations = HSRT_ITERATIONS_DEFAULT;
  float until = 0;
  std::function<bool(const hsrt_progress&)> progress;  ///< false ends the call
  std::function<bool()> abort;                         ///< true ends the call
};

namespace detail {

struct Free {
  void operator()(hsrt_model* model) const noexcept { hsrt_model_free(model); }
  void operator()(hsrt_session* session) const noexcept { hsrt_session_free(session); }
  void operator()(hsrt_inversion* inversion) const noexcept { hsrt_inversion_free(inversion); }
};

template <typename Handle>
using Owned = std::unique_ptr<Handle, Free>;

// Numbers of floats of an inversion.
struct Sizes {
  size_t latents;
  size_t codes;
};

// Carries the functions of an InvertOptions, and what they throw, through C.
struct Callbacks {
  const InvertOptions& options;
  std::exception_ptr thrown;

  template <typename Call>
  int32_t ends(Call&& call) noexcept {
    try {
      return call() ? 1 : 0;
    } catch (...) {
      thrown = std::current_exception();
      return 1;
    }
  }
  static int32_t progress(void* user, const hsrt_progress* progress) noexcept {
    auto& self = *static_cast<Callbacks*>(user);
    return self.ends([&] { return !self.options.progress(*progress); });
  }
  static int32_t abort(void* user) noexcept {
    auto& self = *static_cast<Callbacks*>(user);
    return self.ends([&] { return self.options.abort(); });
  }
};

}  // namespace detail

/// A bundle opened on a provider; any number of threads may use it.
class Model {
 public:
  /// From a directory.
  explicit Model(const std::string& directory, const ModelOptions& options = {}) {
    hsrt_model* model = nullptr;
    check(hsrt_model_load(HSRT_API_VERSION, directory.c_str(), &options, &model));
    take(model);
  }

  /// From buffers, which must stay until model, sessions and inversions are gone.
  explicit Model(Span<const hsrt_buffer> files, const ModelOptions& options = {}) {
    hsrt_model* model = nullptr;
    check(hsrt_model_load_memory(HSRT_API_VERSION, files.data(), files.size(), &options, &model));
    take(model);
  }

  const hsrt_model_info& info() const noexcept { return info_; }
  detail::Sizes sizes() const noexcept {
    return {static_cast<size_t>(info_.latent_rows) * info_.latent_width,
            static_cast<size_t>(info_.code_rows) * info_.code_width};
  }

  /// Its methods, in the order of their names, which are valid as long as the model.
  std::vector<hsrt_method_info> methods() const {
    std::vector<hsrt_method_info> methods(info_.method_count);
    for (size_t at = 0; at < methods.size(); ++at) {
      methods[at].struct_size = sizeof(hsrt_method_info);
      check(hsrt_model_get_method(get(), at, &methods[at]));
    }
    return methods;
  }

  hsrt_model* get() const noexcept { return handle_.get(); }

 private:
  detail::Owned<hsrt_model> handle_;
  hsrt_model_info info_{};

  void take(hsrt_model* model) {
    handle_.reset(model);
    info_.struct_size = sizeof info_;
    check(hsrt_model_get_info(model, &info_));
  }
};

/// What was found for a picture.
class Inversion {
 public:
  /// Read a file.
  static Inversion load(const Model& model, const std::string& path) {
    hsrt_inversion* handle = nullptr;
    check(hsrt_inversion_load(model.get(), path.c_str(), &handle));
    return Inversion(handle, model.sizes());
  }

  /// Read the content of a file.
  static Inversion load(const Model& model, Span<const unsigned char> content) {
    hsrt_inversion* handle = nullptr;
    check(hsrt_inversion_load_memory(model.get(), content.data(), content.size(), &handle));
    return Inversion(handle, model.sizes());
  }

  void save(const std::string& path) const { check(hsrt_inversion_save(get(), path.c_str())); }

  /// The content of a file.
  std::vector<unsigned char> save() const {
    size_t size = 0;
    check(hsrt_inversion_save_memory(get(), nullptr, 0, &size));
    std::vector<unsigned char> content(size);
    check(hsrt_inversion_save_memory(get(), content.data(), size, &size));
    return content;
  }

  /// The picture that invert() drew.
  void image(const Image& to) const { check(hsrt_inversion_image(get(), &to)); }

  Span<const float> latents() const noexcept {  ///< [L,W]
    return {hsrt_inversion_latents(get()), sizes_.latents};
  }
  Span<const float> codes() const noexcept {  ///< [M,K+1]; empty if there are none
    const float* codes = hsrt_inversion_codes(get());
    return {codes, codes == nullptr ? size_t{0} : sizes_.codes};
  }
  const char* method() const noexcept { return hsrt_inversion_method(get()); }
  int32_t iterations() const noexcept { return hsrt_inversion_iterations(get()); }

  /// [3,3], from pixels of the photo to pixels of the aligned crop; empty if there is none.
  Span<const float> transform() const noexcept {
    const float* matrix = hsrt_inversion_transform(get());
    return {matrix, matrix == nullptr ? size_t{0} : size_t{9}};
  }
  void set_transform(const float (&matrix)[9]) {
    check(hsrt_inversion_set_transform(get(), matrix));
  }

  /// How many channel offsets it has, which refining finds; 0: none.
  size_t channel_offset_count() const noexcept {
    return hsrt_inversion_channel_offset_count(get());
  }
  hsrt_inversion* get() const noexcept { return handle_.get(); }

 private:
  friend class Session;
  detail::Owned<hsrt_inversion> handle_;
  detail::Sizes sizes_;

  Inversion(hsrt_inversion* handle, detail::Sizes sizes) noexcept
      : handle_(handle), sizes_(sizes) {}
};

/// One thread's use of a model.
class Session {
 public:
  explicit Session(const Model& model) : sizes_(model.sizes()) {
    hsrt_session* session = nullptr;
    check(hsrt_session_create(model.get(), &session));
    handle_.reset(session);
  }

  Inversion invert(const ConstImage& picture, const InvertOptions& options = {}) {
    detail::Callbacks callbacks{options, nullptr};
    hsrt_invert_options c_options = {};
    c_options.struct_size = sizeof c_options;
    c_options.iterations = options.iterations;
    c_options.until = options.until;
    if (options.progress) c_options.progress = detail::Callbacks::progress;
    if (options.abort) c_options.abort = detail::Callbacks::abort;
    c_options.user = &callbacks;
    if (!options.method.empty()) c_options.method = options.method.c_str();
    hsrt_inversion* inversion = nullptr;
    const hsrt_status status = hsrt_session_invert(get(), &picture, &c_options, &inversion);
    if (callbacks.thrown) std::rethrow_exception(callbacks.thrown);
    check(status);
    return Inversion(inversion, sizes_);
  }

  void render(const Inversion& inversion, const Image& to) {
    check(hsrt_session_render(get(), inversion.get(), nullptr, 1, &to));
  }

  /// Draw other latents [N,L,W] with the kernels of the inversion's face, into N pictures.
  void render(const Inversion& inversion, Span<const float> latents, Span<const Image> to) {
    if (latents.size() != to.size() * inversion.latents().size()) {
      throw Error(HSRT_ERROR_ARGUMENT, "latents must be as many per picture as the inversion has");
    }
    check(hsrt_session_render(get(), inversion.get(), latents.data(), to.size(), to.data()));
  }

  /// Draw latents + strength * direction; the direction is [L,W] or [W].
  void edit(const Inversion& inversion, Span<const float> direction, float strength,
            const Image& to) {
    check(hsrt_session_edit(get(), inversion.get(), direction.data(), direction.size(), strength,
                            &to));
  }

  hsrt_session* get() const noexcept { return handle_.get(); }

 private:
  detail::Owned<hsrt_session> handle_;
  detail::Sizes sizes_;
};

}  // namespace hyperstyle_rt
