// Whatever a caller does wrong is an error code, never a crash. Run with sanitizers, too.
//
//     test_misuse BUNDLE FOLDER
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "fixture.hpp"

namespace fs = std::filesystem;
namespace hs = hyperstyle_rt;

namespace {

int default_iterations(const Fixture& f) {
  for (const hsrt_method_info& method : f.model.methods()) {
    if (std::strcmp(method.name, f.model.info().default_method) == 0) return method.iterations;
  }
  return -1;
}

void test_null(Fixture& f) {
  const auto is_refused = [](hsrt_status status) {
    return fails(status, HSRT_ERROR_ARGUMENT, "must not be NULL");
  };
  hsrt_model* model = nullptr;
  hsrt_session* session = nullptr;
  hsrt_inversion* inversion = nullptr;
  hsrt_model_info info = f.model.info();
  size_t size = 0;
  const float zeros[9] = {};
  const hs::Inversion face = f.session.invert(f.picture);
  CHECK(is_refused(hsrt_model_load(HSRT_API_VERSION, nullptr, nullptr, &model)));
  CHECK(is_refused(hsrt_model_load(HSRT_API_VERSION, "x", nullptr, nullptr)));
  CHECK(is_refused(hsrt_model_load_memory(HSRT_API_VERSION, nullptr, 1, nullptr, &model)));
  CHECK(is_refused(hsrt_model_get_info(nullptr, &info)));
  CHECK(is_refused(hsrt_model_get_info(f.model.get(), nullptr)));
  CHECK(is_refused(hsrt_session_create(nullptr, &session)));
  CHECK(is_refused(hsrt_session_create(f.model.get(), nullptr)));
  CHECK(is_refused(hsrt_session_invert(nullptr, &f.picture, nullptr, &inversion)));
  CHECK(is_refused(hsrt_session_invert(f.session.get(), nullptr, nullptr, &inversion)));
  CHECK(is_refused(hsrt_session_invert(f.session.get(), &f.picture, nullptr, nullptr)));
  CHECK(is_refused(hsrt_session_render(nullptr, face.get(), nullptr, 1, &f.result)));
  CHECK(is_refused(hsrt_session_render(f.session.get(), nullptr, nullptr, 1, &f.result)));
  CHECK(is_refused(hsrt_session_render(f.session.get(), face.get(), nullptr, 1, nullptr)));
  CHECK(is_refused(hsrt_session_edit(f.session.get(), face.get(), nullptr, 1, 1, &f.result)));
  CHECK(is_refused(hsrt_session_edit(f.session.get(), face.get(), zeros, 1, 1, nullptr)));
  CHECK(is_refused(hsrt_inversion_load(f.model.get(), nullptr, &inversion)));
  CHECK(is_refused(hsrt_inversion_load_memory(f.model.get(), nullptr, 1, &inversion)));
  CHECK(is_refused(hsrt_inversion_save(nullptr, "x")));
  CHECK(is_refused(hsrt_inversion_save(face.get(), nullptr)));
  CHECK(is_refused(hsrt_inversion_save_memory(face.get(), nullptr, 0, nullptr)));
  CHECK(is_refused(hsrt_inversion_image(nullptr, &f.result)));
  CHECK(is_refused(hsrt_inversion_image(face.get(), nullptr)));
  CHECK(is_refused(hsrt_inversion_set_transform(nullptr, zeros)));
  CHECK(hsrt_inversion_save_memory(face.get(), nullptr, 0, &size) == HSRT_OK && size > 0);
  CHECK(hsrt_inversion_latents(nullptr) == nullptr && hsrt_inversion_codes(nullptr) == nullptr);
  CHECK(hsrt_inversion_transform(nullptr) == nullptr);
  CHECK(hsrt_inversion_iterations(nullptr) == -1);
  CHECK(hsrt_inversion_method(nullptr) == nullptr);
  CHECK(hsrt_inversion_channel_offset_count(nullptr) == 0);
  hsrt_method_info method = {};
  CHECK(is_refused(hsrt_model_get_method(nullptr, 0, &method)));
  CHECK(is_refused(hsrt_model_get_method(f.model.get(), 0, nullptr)));
  CHECK(model == nullptr && session == nullptr && inversion == nullptr);
  hsrt_model_free(nullptr);
  hsrt_session_free(nullptr);
  hsrt_inversion_free(nullptr);
}

void test_versions_and_sizes(Fixture& f) {
  hsrt_model* model = nullptr;
  hsrt_inversion* inversion = nullptr;
  for (const uint32_t version : {0u, HSRT_API_VERSION - 1, HSRT_API_VERSION + 1, ~0u}) {
    CHECK(fails(hsrt_model_load(version, f.bundle.c_str(), nullptr, &model), HSRT_ERROR_VERSION,
                "compile it with this library's header"));
  }
  for (const size_t size : {size_t{0}, sizeof(hsrt_model_options) - 1, ~size_t{0}}) {
    hs::ModelOptions options;
    options.struct_size = size;
    CHECK(fails(hsrt_model_load(HSRT_API_VERSION, f.bundle.c_str(), &options, &model),
                HSRT_ERROR_ARGUMENT, "struct_size"));
    hsrt_invert_options invert = {};
    invert.struct_size = size;
    CHECK(fails(hsrt_session_invert(f.session.get(), &f.picture, &invert, &inversion),
                HSRT_ERROR_ARGUMENT, "struct_size"));
    hs::ConstImage picture = f.picture;
    picture.struct_size = size;
    CHECK(fails(hsrt_session_invert(f.session.get(), &picture, nullptr, &inversion),
                HSRT_ERROR_ARGUMENT, "struct_size"));
    hsrt_model_info info = {};
    info.struct_size = size;
    CHECK(fails(hsrt_model_get_info(f.model.get(), &info), HSRT_ERROR_ARGUMENT, "struct_size"));
    hsrt_method_info method = {};
    method.struct_size = size;
    CHECK(fails(hsrt_model_get_method(f.model.get(), 0, &method), HSRT_ERROR_ARGUMENT,
                "struct_size"));
  }
  CHECK(hsrt_api_version() == HSRT_API_VERSION);
  CHECK(std::strlen(hsrt_version()) > 0 && std::strlen(hsrt_git_revision()) > 0);
  CHECK(std::strlen(hsrt_onnxruntime_version()) > 0);
  CHECK(std::string(hsrt_status_name(12345)) == "unknown status");
}

void test_options(Fixture& f) {
  hsrt_model* model = nullptr;
  const auto refused = [&](const hs::ModelOptions& options, hsrt_status status,
                           const std::string& reason) {
    return fails(hsrt_model_load(HSRT_API_VERSION, f.bundle.c_str(), &options, &model), status,
                 reason);
  };
  hs::ModelOptions options;
  options.provider = 17;
  CHECK(refused(options, HSRT_ERROR_ARGUMENT, "provider must be from 0 to 2, not 17"));
  for (const hsrt_provider provider : {HSRT_PROVIDER_CUDA, HSRT_PROVIDER_TENSORRT}) {
    options.provider = provider;  // not in the ONNX Runtime of the tests
    CHECK(refused(options, HSRT_ERROR_BACKEND, "use HSRT_PROVIDER_CPU"));
  }
  options = {};
  options.threads = -1;
  CHECK(refused(options, HSRT_ERROR_ARGUMENT, "threads must be"));
  options = {};
  options.precision = HSRT_PRECISION_FP16;
  CHECK(refused(options, HSRT_ERROR_BUNDLE, "has no fp16 graphs, only fp32"));
  options.precision = HSRT_PRECISION_FP32;
  options.optimisation = HSRT_OPTIMISE_NONE;
  CHECK(hsrt_model_load(HSRT_API_VERSION, f.bundle.c_str(), &options, &model) == HSRT_OK);
  hsrt_model_free(model);

  hsrt_inversion* inversion = nullptr;
  for (const int iterations : {-2, 101}) {
    hsrt_invert_options invert = {};
    invert.struct_size = sizeof invert;
    invert.iterations = iterations;
    CHECK(fails(hsrt_session_invert(f.session.get(), &f.picture, &invert, &inversion),
                HSRT_ERROR_ARGUMENT, "iterations must be from -1 to 100"));
  }
  for (const float until :
       {-1.0F, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    hsrt_invert_options invert = {};
    invert.struct_size = sizeof invert;
    invert.until = until;
    CHECK(fails(hsrt_session_invert(f.session.get(), &f.picture, &invert, &inversion),
                HSRT_ERROR_ARGUMENT, "until must be a finite number of at least 0"));
  }
}

void test_methods(Fixture& f) {
  const std::vector<hsrt_method_info> methods = f.model.methods();
  CHECK(methods.size() == f.model.info().method_count && !methods.empty());
  hsrt_method_info beyond = {};
  beyond.struct_size = sizeof beyond;
  for (const size_t index : {methods.size(), ~size_t{0}}) {
    CHECK(fails(hsrt_model_get_method(f.model.get(), index, &beyond), HSRT_ERROR_ARGUMENT,
                "index must be less than"));
  }
  hs::InvertOptions options;
  options.method = f.model.info().default_method;
  const hs::Inversion face = f.session.invert(f.picture, options);
  CHECK(face.method() == options.method && face.save() == f.session.invert(f.picture).save());
  options.method = "no such\nmethod";
  try {
    f.session.invert(f.picture, options);
    CHECK(false);
  } catch (const hs::Error& error) {
    CHECK(error.status() == HSRT_ERROR_BUNDLE);
    CHECK(std::string(error.what()).find("has no method 'no such\\x0amethod', only") !=
          std::string::npos);
  }
}

void test_pictures(Fixture& f) {
  hsrt_inversion* inversion = nullptr;
  const auto refused = [&](hs::ConstImage picture, hsrt_status status, const char* reason) {
    return fails(hsrt_session_invert(f.session.get(), &picture, nullptr, &inversion), status,
                 reason);
  };
  unsigned char* pixels = f.pixels.data();
  CHECK(refused({nullptr, 4, 4}, HSRT_ERROR_ARGUMENT, "data is NULL"));
  CHECK(refused({pixels, 0, 4}, HSRT_ERROR_PICTURE, "has no pixels"));
  CHECK(refused({pixels, 4, -4}, HSRT_ERROR_PICTURE, "has no pixels"));
  CHECK(refused({pixels, 65501, 1}, HSRT_ERROR_PICTURE, "scale it down"));
  CHECK(refused({pixels, 2147483647, 2147483647}, HSRT_ERROR_PICTURE, "scale it down"));
  CHECK(refused({pixels, 4, 4, 9}, HSRT_ERROR_ARGUMENT, "format must be"));
  CHECK(refused({pixels, 4, 4, HSRT_RGB8, 11}, HSRT_ERROR_ARGUMENT, "stride is shorter"));
  CHECK(refused({pixels, 4, 4, HSRT_RGBA8, -15}, HSRT_ERROR_ARGUMENT, "stride is shorter"));
  CHECK(refused({pixels, 4, 4, HSRT_RGB8, PTRDIFF_MIN}, HSRT_ERROR_ARGUMENT, "stride is longer"));
  CHECK(refused({pixels, 4, 4, HSRT_RGB8, PTRDIFF_MAX}, HSRT_ERROR_ARGUMENT, "stride is longer"));
  CHECK(refused({pixels, 4, 4, HSRT_RGB_PLANES_F32}, HSRT_ERROR_PICTURE, "input size"));
  CHECK(refused({pixels + 1, 4, 4, HSRT_RGB_PLANES_F32}, HSRT_ERROR_ARGUMENT, "aligned"));
  const hsrt_model_info& info = f.model.info();
  std::vector<float> floats(3 * static_cast<size_t>(info.input_width) * info.input_height);
  const hs::ConstImage planes(floats.data(), info.input_width, info.input_height,
                              HSRT_RGB_PLANES_F32);
  CHECK(f.session.invert(planes).iterations() == default_iterations(f));
  floats[5] = std::numeric_limits<float>::infinity();
  CHECK(refused(planes, HSRT_ERROR_PICTURE, "NaN or infinity"));

  const hs::Inversion face = f.session.invert(f.picture);
  hs::Image small(f.drawn.data(), info.image_width, info.image_height - 1);
  CHECK(fails(hsrt_session_render(f.session.get(), face.get(), nullptr, 1, &small),
              HSRT_ERROR_PICTURE, "must have the model's image size"));
  CHECK(
      fails(hsrt_session_edit(f.session.get(), face.get(), face.latents().data(), 3, 1, &f.result),
            HSRT_ERROR_ARGUMENT, "size must be"));
}

// Layouts of the same picture give the same codes.
void test_layouts(Fixture& f) {
  constexpr ptrdiff_t kStride = 4 * kSide + 24;
  std::vector<unsigned char> bgr(kStride * kSide), rgba(kStride * kSide);
  for (int y = 0; y < kSide; ++y) {
    for (int x = 0; x < kSide; ++x) {
      const unsigned char* from = &f.pixels[3 * static_cast<size_t>(y * kSide + x)];
      unsigned char* upside_down = &bgr[(kSide - 1 - y) * kStride + 3 * x];
      unsigned char* opaque = &rgba[y * kStride + 4 * x];
      for (int c = 0; c < 3; ++c) upside_down[c] = from[2 - c];
      for (int c = 0; c < 3; ++c) opaque[c] = from[c];
      opaque[3] = 255;
    }
  }
  const auto expected = f.session.invert(f.picture).save();
  const hs::ConstImage from_below(&bgr[(kSide - 1) * kStride], kSide, kSide, HSRT_BGR8, -kStride);
  CHECK(f.session.invert(from_below).save() == expected);
  CHECK(f.session.invert({rgba.data(), kSide, kSide, HSRT_RGBA8, kStride}).save() == expected);
}

void test_abort(Fixture& f) {
  const auto whole = f.session.invert(f.picture).save();
  int asked = 0;
  for (int end_at = 1; asked == end_at - 1; ++end_at) {  // at every place there is
    asked = 0;
    hs::InvertOptions options;
    options.abort = [&] { return ++asked == end_at; };
    try {
      CHECK(f.session.invert(f.picture, options).save() == whole);
    } catch (const hs::Error& error) {
      CHECK(error.status() == HSRT_ERROR_ABORTED);
    }
  }
  CHECK(asked > 3 * default_iterations(f));
  hs::InvertOptions second;
  second.progress = [](const hsrt_progress& progress) { return progress.iteration < 2; };
  try {
    f.session.invert(f.picture, second);
    CHECK(false);
  } catch (const hs::Error& error) {
    CHECK(error.status() == HSRT_ERROR_ABORTED);
  }
  second.progress = [](const hsrt_progress&) -> bool { throw std::runtime_error("mine"); };
  try {
    f.session.invert(f.picture, second);
    CHECK(false);
  } catch (const std::runtime_error& mine) {
    CHECK(std::string(mine.what()) == "mine");
  }
  CHECK(f.session.invert(f.picture).save() == whole);  // the session has not suffered
}

void test_any_order_of_freeing(Fixture& f) {
  hsrt_model* model = nullptr;
  hsrt_session* session = nullptr;
  hsrt_inversion* inversion = nullptr;
  CHECK(hsrt_model_load(HSRT_API_VERSION, f.bundle.c_str(), nullptr, &model) == HSRT_OK);
  CHECK(hsrt_session_create(model, &session) == HSRT_OK);
  hsrt_model_free(model);
  CHECK(hsrt_session_invert(session, &f.picture, nullptr, &inversion) == HSRT_OK);
  hsrt_session_free(session);
  CHECK(hsrt_inversion_image(inversion, &f.result) == HSRT_OK);
  hsrt_inversion_free(inversion);
}

void test_inversion_files(Fixture& f, const fs::path& folder) {
  hs::Inversion face = f.session.invert(f.picture);
  face.set_transform({1, 0, 5, 0, 1, 6, 0, 0, 1});
  const std::string path = (folder / "face.safetensors").string();
  face.save(path);
  const hs::Inversion loaded = hs::Inversion::load(f.model, path);
  CHECK(loaded.save() == face.save() && loaded.transform()[5] == 6);
  CHECK(
      fails(hsrt_inversion_image(loaded.get(), &f.result), HSRT_ERROR_INVERSION, "has no picture"));
  f.session.render(loaded, f.result);
  const auto drawn = f.drawn;
  face.image(f.result);
  CHECK(drawn == f.drawn);
  std::vector<unsigned char> content = face.save();
  hsrt_inversion* inversion = nullptr;
  for (size_t size = 0; size < content.size(); ++size) {
    const std::vector<unsigned char> cut(content.begin(), content.begin() + size);
    const unsigned char nothing = 0;
    const void* data = cut.empty() ? &nothing : cut.data();
    CHECK(fails(hsrt_inversion_load_memory(f.model.get(), data, size, &inversion),
                HSRT_ERROR_INVERSION, "invert the picture again"));
  }
  CHECK(fails(hsrt_inversion_save(face.get(), (folder / "no" / "x").string().c_str()),
              HSRT_ERROR_INVERSION, "cannot write"));
  CHECK(fails(hsrt_inversion_load(f.model.get(), folder.string().c_str(), &inversion),
              HSRT_ERROR_INVERSION, "is not a regular file"));
  const float infinite[9] = {std::numeric_limits<float>::infinity()};
  CHECK(fails(hsrt_inversion_set_transform(face.get(), infinite), HSRT_ERROR_INVERSION,
              "NaN or infinity"));
  CHECK(face.transform()[5] == 6);
}

void test_refined_inversion_files(Fixture& f) {
  const hs::Inversion face = f.session.invert(f.picture);
  const std::vector<unsigned char> content = refined(f.bundle, face.save());
  hs::Inversion loaded = hs::Inversion::load(f.model, content);
  CHECK(face.channel_offset_count() == 0 && loaded.channel_offset_count() > 0);
  CHECK(loaded.save() == content);
  loaded.set_transform({1, 0, 5, 0, 1, 6, 0, 0, 1});
  const std::vector<unsigned char> with_transform = loaded.save();
  CHECK(hs::Inversion::load(f.model, with_transform).channel_offset_count() ==
        loaded.channel_offset_count());
  hsrt_inversion* inversion = nullptr;
  for (size_t lacking = 1; lacking < 64; ++lacking) {
    CHECK(fails(hsrt_inversion_load_memory(f.model.get(), content.data(), content.size() - lacking,
                                           &inversion),
                HSRT_ERROR_INVERSION, "invert the picture again"));
  }
}

void test_messages_are_the_threads_own(Fixture&) {
  hsrt_model* model = nullptr;
  hsrt_model_load(HSRT_API_VERSION, "not/there", nullptr, &model);
  const std::string mine = hsrt_last_error();
  std::thread([] { CHECK(std::strlen(hsrt_last_error()) == 0); }).join();
  CHECK(!mine.empty() && mine == hsrt_last_error());
}

// A sentence too long for its memory ends with a whole character.
void test_long_messages(Fixture&) {
  hsrt_model* model = nullptr;
  for (size_t shift = 0; shift < 2; ++shift) {
    std::string path(shift, 'x');
    while (path.size() < 3000) path += "\xc3\xa9";
    CHECK(hsrt_model_load(HSRT_API_VERSION, path.c_str(), nullptr, &model) == HSRT_ERROR_BUNDLE);
    const std::string sentence = hsrt_last_error();
    CHECK(sentence.size() > 1000 && sentence.back() == '\xa9');
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const fs::path folder = arguments[2];
  fs::create_directories(folder);
  Fixture f(arguments[1]);
  std::vector<std::string> log;
  hsrt_set_log_callback(
      [](void* user, hsrt_log_level, const char* message) {
        static_cast<std::vector<std::string>*>(user)->emplace_back(message);
      },
      &log);
  test_null(f);
  test_versions_and_sizes(f);
  test_options(f);
  test_methods(f);
  test_pictures(f);
  test_layouts(f);
  test_abort(f);
  test_any_order_of_freeing(f);
  test_inversion_files(f, folder);
  test_refined_inversion_files(f);
  test_messages_are_the_threads_own(f);
  test_long_messages(f);
  hsrt_set_log_callback(nullptr, nullptr);
  CHECK(!log.empty());  // graphs that were opened
  return outcome();
}
