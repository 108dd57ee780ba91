// Bundles in memory, and bundles that somebody has altered.
//
//     test_bundles BUNDLE [RICH_BUNDLE]
#include <filesystem>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <map>
#include <string>
#include <vector>

#include "fixture.hpp"

namespace fs = std::filesystem;

namespace {

std::map<std::string, std::string> files_of(const fs::path& bundle) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(bundle)) {
    if (entry.is_regular_file()) files[entry.path().filename().string()] = read(entry.path());
  }
  return files;
}

hsrt_status load(const std::map<std::string, std::string>& files, hsrt_model** model,
                 const hsrt_model_options* options = nullptr) {
  std::vector<hsrt_buffer> buffers;
  for (const auto& [name, content] : files) {
    buffers.push_back({name.c_str(), content.data(), content.size()});
  }
  return hsrt_model_load_memory(HSRT_API_VERSION, buffers.data(), buffers.size(), options, model);
}

// From buffers comes what comes from files; in the rich bundle, weights are in files of their own.
void test_memory_bundle(Fixture& f, const fs::path& bundle, hsrt_precision precision) {
  const auto files = files_of(bundle);
  hyperstyle_rt::ModelOptions options;
  options.precision = precision;
  hsrt_model* model = nullptr;
  hsrt_session* session = nullptr;
  hsrt_inversion* inversion = nullptr;
  CHECK(load(files, &model, &options) == HSRT_OK);
  CHECK(hsrt_session_create(model, &session) == HSRT_OK);
  CHECK(hsrt_session_invert(session, &f.picture, nullptr, &inversion) == HSRT_OK);
  const hyperstyle_rt::Model from_files(bundle.string(), options);
  const auto expected = hyperstyle_rt::Session(from_files).invert(f.picture).save();
  std::vector<unsigned char> found(expected.size());
  size_t size = 0;
  CHECK(hsrt_inversion_save_memory(inversion, found.data(), found.size(), &size) == HSRT_OK);
  CHECK(found == expected);
  CHECK(fails(hsrt_inversion_save_memory(inversion, found.data(), 3, &size), HSRT_ERROR_ARGUMENT,
              "are needed"));
  hsrt_inversion_free(inversion);
  hsrt_session_free(session);
  hsrt_model_free(model);
}

// What the graph `channel_offsets` makes of a refined inversion is the same from buffers.
void test_refined_from_memory(Fixture& f, const fs::path& bundle) {
  const auto files = files_of(bundle);
  const hyperstyle_rt::Model from_files(bundle.string());
  hyperstyle_rt::Session session(from_files);
  const auto face = session.invert(f.picture);
  const auto content = refined(bundle.string(), face.save());
  session.render(hyperstyle_rt::Inversion::load(from_files, content), f.result);
  const auto expected = f.drawn;
  session.render(face, f.result);
  CHECK(f.drawn != expected);
  hsrt_model* model = nullptr;
  hsrt_session* from_memory = nullptr;
  hsrt_inversion* inversion = nullptr;
  CHECK(load(files, &model) == HSRT_OK);
  CHECK(hsrt_session_create(model, &from_memory) == HSRT_OK);
  CHECK(hsrt_inversion_load_memory(model, content.data(), content.size(), &inversion) == HSRT_OK);
  CHECK(hsrt_session_render(from_memory, inversion, nullptr, 1, &f.result) == HSRT_OK);
  CHECK(f.drawn == expected);
  hsrt_inversion_free(inversion);
  hsrt_session_free(from_memory);
  hsrt_model_free(model);
}

void test_external_data_is_verified(const fs::path& rich) {
  const auto sound = files_of(rich);
  hsrt_model* model = nullptr;
  auto files = sound;
  files["generator.onnx.data"][7] ^= 1;
  CHECK(fails(load(files, &model), HSRT_ERROR_BUNDLE, "generator.onnx.data is altered"));
  files.erase("generator.onnx.data");
  CHECK(fails(load(files, &model), HSRT_ERROR_BUNDLE, "no generator.onnx.data among the buffers"));
}

void test_corrupt_bundles(Fixture& f) {
  const auto sound = files_of(f.bundle);
  hsrt_model* model = nullptr;
  for (const char* name : {"manifest.json", "generator.onnx"}) {
    auto files = sound;
    if (files.count(name) == 0) continue;
    files[name].resize(files[name].size() / 2);
    CHECK(fails(load(files, &model), HSRT_ERROR_BUNDLE, "restore the bundle or build it again"));
    files[name] = sound.at(name);
    files[name][1] ^= 1;
    CHECK(fails(load(files, &model), HSRT_ERROR_BUNDLE, "restore the bundle or build it again"));
    files.erase(name);
    CHECK(fails(load(files, &model), HSRT_ERROR_BUNDLE, "among the buffers"));
  }
  auto unlisted = sound;
  unlisted["generator.onnx.data.not"] = "ignored";
  CHECK(load(unlisted, &model) == HSRT_OK);
  hsrt_model_free(model);
  auto altered = sound;  // found when the graph is first run
  altered["encoder.onnx"][100] ^= 1;
  hsrt_session* session = nullptr;
  hsrt_inversion* inversion = nullptr;
  CHECK(load(altered, &model) == HSRT_OK);
  CHECK(hsrt_session_create(model, &session) == HSRT_OK);
  CHECK(fails(hsrt_session_invert(session, &f.picture, nullptr, &inversion), HSRT_ERROR_BUNDLE,
              "is altered"));
  hsrt_session_free(session);
  hsrt_model_free(model);
  CHECK(fails(hsrt_model_load(HSRT_API_VERSION, "not/there", nullptr, &model), HSRT_ERROR_BUNDLE,
              "there is no directory"));
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) return 2;
  Fixture f(arguments[1]);
  test_memory_bundle(f, arguments[1], HSRT_PRECISION_FP32);
  test_corrupt_bundles(f);
  if (count > 2) {
    test_memory_bundle(f, arguments[2], HSRT_PRECISION_FP32);
    test_memory_bundle(f, arguments[2], HSRT_PRECISION_FP16);
    test_refined_from_memory(f, arguments[2]);
    test_external_data_is_verified(arguments[2]);
  }
  return outcome();
}
