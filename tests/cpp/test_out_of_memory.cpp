// Every allocation of the readers may fail: the call gives HSRT_ERROR_MEMORY and leaks nothing.
//
//     test_out_of_memory BUNDLE
//
// The graphs are not run: what ONNX Runtime does without memory is its own affair.
#include <cstdlib>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <new>
#include <string>
#include <vector>

#include "fixture.hpp"

namespace {

thread_local long allocations_left = -1;  // -1: no limit

void* allocate(size_t size) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// The library's allocations come here, too.
void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace {

// Let the first allocation fail, then the second, ... until the call gets through to `last`.
template <typename Call>
void starve(Call&& call, hsrt_status last) {
  for (long allowed = 0;; ++allowed) {
    allocations_left = allowed;
    const hsrt_status status = call();
    allocations_left = -1;
    if (status != HSRT_ERROR_MEMORY) {
      CHECK(status == last);
      CHECK(allowed > 10);  // the limit works
      return;
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const hyperstyle_rt::Model model(arguments[1]);
  hyperstyle_rt::Session session(model);
  const std::vector<unsigned char> pixels(3 * 16 * 16, 99);
  const auto face = session.invert({pixels.data(), 16, 16});
  const std::vector<unsigned char> content = face.save();

  for (const auto& file : {content, refined(arguments[1], content)}) {
    starve(
        [&] {
          hsrt_inversion* inversion = nullptr;
          const hsrt_status status =
              hsrt_inversion_load_memory(model.get(), file.data(), file.size(), &inversion);
          hsrt_inversion_free(inversion);
          return status;
        },
        HSRT_OK);
  }
  std::vector<unsigned char> copy(content.size());
  starve(
      [&] {
        size_t size = 0;
        return hsrt_inversion_save_memory(face.get(), copy.data(), copy.size(), &size);
      },
      HSRT_OK);
  CHECK(copy == content);
  // One that is read to its end, and refused there: what it lists is not asked for.
  std::string manifest = read(std::string(arguments[1]) + "/manifest.json");
  const std::string method = "\"default_method\": \"";
  manifest.insert(manifest.find(method) + method.size(), "not_");
  const hsrt_buffer only_manifest = {"manifest.json", manifest.data(), manifest.size()};
  starve(
      [&] {
        hsrt_model* none = nullptr;
        return hsrt_model_load_memory(HSRT_API_VERSION, &only_manifest, 1, nullptr, &none);
      },
      HSRT_ERROR_BUNDLE);
  return outcome();
}
