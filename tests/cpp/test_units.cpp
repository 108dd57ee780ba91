// What needs neither a bundle nor ONNX Runtime's graphs.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "check.hpp"
#include "failure.hpp"
#include "fields.hpp"
#include "gpu.hpp"
#include "imaging.hpp"
#include "inversion_file.hpp"
#include "ort.hpp"
#include "sha256.hpp"
#include "state.hpp"
#include "strict_json.hpp"
#include "tensors.hpp"
#include "usable_cpus.hpp"

using namespace hsrt;
namespace fs = std::filesystem;

namespace {

// FIPS 180-4's examples, through however many updates.
void test_sha256() {
  const std::string empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  const std::string abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  const std::string million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  CHECK(sha256("") == empty);
  CHECK(sha256("abc") == abc);
  Sha256 in_pieces;
  const std::string piece(1000, 'a');
  for (int at = 0; at < 1000; ++at) in_pieces.update(piece.data(), piece.size());
  CHECK(in_pieces.finish() == million);
}

bool refuses(const std::string& text, const std::string& reason) {
  try {
    parse_strict(text);
    return false;
  } catch (const std::invalid_argument& problem) {
    return std::string(problem.what()).find(reason) != std::string::npos;
  }
}

void test_strict_json() {
  const Json document = parse_strict(R"({"a": [1, -2, 2.5, "x", null, true]})");
  const auto& list = *document.as<Json::Object>()->at("a").as<Json::Array>();
  CHECK(*list[0].as<uint64_t>() == 1 && *list[1].as<int64_t>() == -2);
  CHECK(*list[2].as<double>() == 2.5 && *list[3].as<std::string>() == "x" && *list[5].as<bool>());
  CHECK(refuses(R"({"a": 1, "a": 1})", "gives the key 'a' twice"));
  CHECK(refuses(R"({"a": {"b": 1, "\u0062": 1}})", "gives the key 'b' twice"));
  CHECK(refuses("[NaN]", "is not JSON"));
  CHECK(refuses("[1e999]", "too large"));
  CHECK(refuses("[" + std::string(21, '9') + "]", "too large"));
  CHECK(refuses("\xef\xbb\xbf[]", "byte order mark"));
  CHECK(refuses(std::string("[]\0", 3), "NUL"));
  CHECK(refuses("[] []", "is not JSON"));
  CHECK(refuses("[\"\xff\"]", "is not UTF-8"));
  CHECK(refuses(R"(["\ud800"])", "is not UTF-8"));
  CHECK(refuses(std::string(100000, '['), "nested too deeply"));
  CHECK(shown(std::string_view("\x1b[2J'")) == "'\\x1b[2J\\''");
}

void test_names() {
  for (const char* name : {"encoder.onnx", "_x", "convs.3", "a"}) CHECK(is_plain_name(name));
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "a\\b", "-a", "C:a", "\xc3\xa9"}) {
    CHECK(!is_plain_name(name));
  }
  CHECK(is_plain_name(std::string(100, 'a')) && !is_plain_name(std::string(101, 'a')));
}

void test_resize_keeps_flat_pictures_and_ends() {
  const std::vector<unsigned char> flat(3 * 7 * 5, 200);
  CHECK(resize_bilinear(flat, {7, 5}, {64, 3}) == std::vector<unsigned char>(3 * 64 * 3, 200));
  const std::vector<unsigned char> ends = {0, 0, 0, 255, 255, 255};
  // Pillow 10: Image.fromarray(...).resize((4, 1), BILINEAR)
  const std::vector<unsigned char> four = {0, 0, 0, 64, 64, 64, 191, 191, 191, 255, 255, 255};
  CHECK(resize_bilinear(ends, {1, 2}, {1, 4}) == four);
}

void test_tensor_files_come_back() {
  const std::vector<float> values = {1.0F, 2.0F};
  const std::string_view bytes(reinterpret_cast<const char*>(values.data()), 8);
  const std::string file = serialize_tensors({{"x", {"F32", {1, 2}, bytes}}}, {{"k", "v"}});
  const TensorFile parsed = parse_tensors(file);
  CHECK(parsed.metadata.at("k") == "v");
  CHECK(floats_of(parsed.tensors.at("x")) == values);
  CHECK(parsed.tensors.at("x").shape == (std::vector<uint64_t>{1, 2}));
  for (size_t size = 0; size < file.size(); ++size) {
    bool refused = false;
    try {
      parse_tensors(std::string_view(file).substr(0, size));
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    CHECK(refused);
  }
}

void test_halves_are_widened_without_loss() {
  CHECK(widened(0x3C00) == 1.0F && widened(0xC500) == -5.0F && widened(0x7BFF) == 65504.0F);
  CHECK(widened(0x0001) == 0x1p-24F && widened(0x83FF) == -0x3FFp-24F);
  CHECK(widened(0x0400) == 0x1p-14F && widened(0x3555) == 0x1.554p-2F);
  CHECK(widened(0x0000) == 0 && !std::signbit(widened(0x0000)) && std::signbit(widened(0x8000)));
}

InversionData small_inversion() {
  InversionData data;
  data.latents = {2, 2, {0.5F, -1.0F, 0.5F, 1.0F}};
  data.codes = {1, 2, {0.25F, 3.0F}};
  data.iterations = 3;
  data.space = std::string(64, 'b');
  data.code_space = std::string(64, 'c');
  data.bundle_name = "x";
  data.bundle_digest = std::string(64, 'a');
  data.method = "m";
  data.settings = R"({"iterations":3,"note":"\"\\\u00e9\n"})";
  data.computed = R"({"backend":"cpu","precision":"fp32","provider":"a test"})";
  return data;
}

void test_inversions_come_back() {
  InversionData data = small_inversion();
  for (const bool has_codes : {true, false}) {
    if (!has_codes) {
      data.codes = {};
      data.code_space.clear();
    }
    for (const bool has_offsets : {false, true}) {
      data.channel_offsets.clear();
      if (has_offsets) data.channel_offsets = {0x3C00, 0x8001, 0x7BFF};
      const std::string file = serialize_inversion(data);
      const InversionData parsed = parse_inversion(file);
      CHECK(parsed.latents.values == data.latents.values && parsed.latents.rows == 2);
      CHECK(parsed.codes.values == data.codes.values && parsed.code_space == data.code_space);
      CHECK(parsed.channel_offsets == data.channel_offsets);
      CHECK(parsed.settings == data.settings && parsed.computed == data.computed);
      CHECK(serialize_inversion(parsed) == file);
    }
  }
}

void test_equal_rows_of_latents_are_stored_once() {
  InversionData data = small_inversion();
  data.latents = {300, 2, {}};
  for (int row = 0; row < 300; ++row)
    data.latents.values.insert(data.latents.values.end(), {1, -0.0F});
  const std::string file = serialize_inversion(data);
  CHECK(file.size() < 1200 && file.find("\"w\":") != file.npos);
  CHECK(parse_inversion(file).latents.values == data.latents.values);
  data.latents.values.back() = 0.0F;  // equal in value, not in bits
  CHECK(serialize_inversion(data).find("\"latents\":") != file.npos);
}

// Whether a file is refused once one part of it is replaced by as many other bytes.
bool refuses_with(const std::string& from, const std::string& to, const std::string& reason) {
  InversionData data = small_inversion();
  data.channel_offsets = {0x3C00, 0x8001, 0x7BFF, 0x3555};
  std::string file = serialize_inversion(data);
  const size_t at = file.rfind(from);
  if (at == file.npos || from.size() != to.size()) return false;
  file.replace(at, from.size(), to);
  try {
    parse_inversion(file);
    return false;
  } catch (const Failure& failure) {
    return failure.status() == HSRT_ERROR_INVERSION && failure.text().find(reason) != file.npos;
  }
}

void test_damaged_inversions_are_refused() {
  const std::string halves = "\"F16\",\"shape\":[4]";
  const std::string numbers = "\x01\x80\xff\x7b";
  const std::string not_halves = "channel_offsets must be float16 [?]; invert the picture again";
  const std::string not_finite = "NaN or infinity in the inversion's channel_offsets";
  CHECK(refuses_with("\"version\":\"3\"", "\"version\":\"2\"", "reads version 3"));
  CHECK(refuses_with("\"channel_offsets\":{", "\"chainel_offsets\":{", "needs and tensors"));
  CHECK(refuses_with("channel_offsets\\\"]", "channel_offsetz\\\"]", "needs 'channel_offsetz'"));
  CHECK(refuses_with("a test\\\"}", "a test\\\"]", "has computed that is not JSON"));
  CHECK(refuses_with("provider", "provided", "all of backend, provider, precision"));
  CHECK(refuses_with(halves, "\"I16\",\"shape\":[4]", not_halves));
  CHECK(refuses_with(halves, "\"F32\",\"shape\":[2]", not_halves));
  CHECK(refuses_with(halves, "\"F16\",\"shape\":[5]", "not its shape's"));
  CHECK(refuses_with(numbers, "\x01\x80\x01\x7c", not_finite));
  CHECK(refuses_with(numbers, std::string("\x00\xfc\xff\x7b", 4), not_finite));
}

void test_names_of_the_state() {
  CHECK(state_name("codes_next") == "codes" && state_name("latents") == "latents");
  CHECK(state_name("_next") == "_next" && state_name("next") == "next");
}

// A file system with control groups and nothing else.
class ControlGroups {
 public:
  explicit ControlGroups(const std::string& mountinfo, const std::string& own) {
    fs::remove_all(root);
    write("proc/self/mountinfo", mountinfo);
    write("proc/self/cgroup", own);
  }
  ~ControlGroups() { fs::remove_all(root); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }

  const fs::path root = fs::temp_directory_path() / ("hsrt_groups_" + std::to_string(getpid()));
};

void test_quotas_of_control_groups_limit_threads() {
  const int cpus = usable_cpus("/no/such/root");
  CHECK(cpus >= 1);
  const std::string version_2 =
      "22 1 0:20 / /proc rw - proc proc rw\n"
      "30 22 0:26 / /sys/fs/my\\040groups rw shared:4 - cgroup2 cgroup2 rw\n";
  {
    const ControlGroups groups(version_2, "0::/a/b\n");
    CHECK(usable_cpus(groups.root) == cpus);
    groups.write("sys/fs/my groups/a/b/cpu.max", "max 100000\n");
    CHECK(usable_cpus(groups.root) == cpus);
    groups.write("sys/fs/my groups/a/cpu.max", "100000 100000\n");  // of the group above
    CHECK(usable_cpus(groups.root) == 1);
    groups.write("sys/fs/my groups/a/cpu.max", "1000 100000\n");
    CHECK(usable_cpus(groups.root) == 1);
    groups.write("sys/fs/my groups/a/cpu.max", "150000 100000\n");  // rounded up
    CHECK(usable_cpus(groups.root) == std::min(2, cpus));
    groups.write("sys/fs/my groups/a/cpu.max", "many of them\n");
    CHECK(usable_cpus(groups.root) == cpus);
  }
  // In a container that sees its own group as the outermost.
  const ControlGroups groups(
      "31 23 0:27 /docker/1 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpuacct,cpu\n",
      "4:cpuacct,cpu:/docker/1\n0::/\n");
  groups.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  groups.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  CHECK(usable_cpus(groups.root) == cpus);
  groups.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n");
  CHECK(usable_cpus(groups.root) == 1);
}

const OrtApi* ORT_API_CALL serves_nothing(uint32_t) noexcept { return nullptr; }
const char* ORT_API_CALL says_old() noexcept { return "1.2.3"; }

void test_old_onnxruntime_is_refused() {
  const OrtApiBase old = {serves_nothing, says_old};
  try {
    ort_api_of(old);
    CHECK(false);
  } catch (const Failure& failure) {
    CHECK(failure.status() == HSRT_ERROR_BACKEND);
    CHECK(failure.text().find("ONNX Runtime 1.2.3 does not serve") == 0);
  }
}

// On a machine without a GPU, which is where tests usually run; on another it is just called.
void test_gpu_is_asked_for_without_a_crash() {
  try {
    CHECK(gpu_architecture(0) >= 30);
  } catch (const Failure& failure) {
    CHECK(failure.status() == HSRT_ERROR_BACKEND);
    CHECK(failure.text().find("NVIDIA driver") != std::string::npos);
  }
}

}  // namespace

int main() {
  test_sha256();
  test_strict_json();
  test_names();
  test_resize_keeps_flat_pictures_and_ends();
  test_tensor_files_come_back();
  test_halves_are_widened_without_loss();
  test_inversions_come_back();
  test_equal_rows_of_latents_are_stored_once();
  test_damaged_inversions_are_refused();
  test_names_of_the_state();
  test_quotas_of_control_groups_limit_threads();
  test_old_onnxruntime_is_refused();
  test_gpu_is_asked_for_without_a_crash();
  return outcome();
}
