// Drawing many latents in one call.
//
//     test_render BUNDLE
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <new>
#include <string>
#include <vector>

#include "fixture.hpp"
#include "ort_stand_in.hpp"

namespace hs = hyperstyle_rt;

namespace {

std::function<bool()> before_run;        // whether a graph may run; empty: all may
thread_local size_t largest_allocation;  // of this thread, since it was last set to 0

void* allocate(size_t size) {
  largest_allocation = std::max(largest_allocation, size);
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

OrtStatus* ORT_API_CALL run(OrtSession* session, const OrtRunOptions* options,
                            const OrtIoBinding* binding) noexcept {
  if (before_run && !before_run()) return real_ort->CreateStatus(ORT_FAIL, "not now");
  return real_ort->RunWithBinding(session, options, binding);
}

}  // namespace

void stand_in(OrtApi& api) { api.RunWithBinding = run; }

// The library's allocations come here, and ONNX Runtime's: with nothrow, too, as AddressSanitizer
// asks that an allocation and its end be of one kind.
void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace {

// The latents of a face, `count` times and each time moved a little further.
std::vector<float> moved(const hs::Inversion& face, size_t count) {
  std::vector<float> latents;
  for (size_t at = 0; at < count; ++at) {
    for (const float value : face.latents()) latents.push_back(value + 0.5F * at);
  }
  return latents;
}

void test_batch(Fixture& f) {
  const hs::Inversion face = f.session.invert(f.picture);
  std::vector<float> latents = moved(face, 2);
  std::vector<unsigned char> second(f.drawn.size());
  const hs::Image images[] = {f.result, f.result_in(second)};
  f.session.render(face, latents, {images, 2});
  const auto first = f.drawn;
  f.session.render(face, f.result);
  CHECK(first == f.drawn && first != second);
  const std::vector<float> direction(static_cast<size_t>(f.model.info().latent_width), 1.0F);
  f.session.edit(face, direction, 0.5F, f.result);
  CHECK(second == f.drawn);
  latents.pop_back();
  try {
    f.session.render(face, latents, {images, 2});
    CHECK(false);
  } catch (const hs::Error& error) {
    CHECK(error.status() == HSRT_ERROR_ARGUMENT);
  }
}

// A refusal names the count that the caller gave.
void test_counts(Fixture& f) {
  const hs::Inversion face = f.session.invert(f.picture);
  const auto refused = [&](const float* latents, size_t count, const std::string& range) {
    return fails(hsrt_session_render(f.session.get(), face.get(), latents, count, &f.result),
                 HSRT_ERROR_ARGUMENT, "count must be " + range + ", not " + std::to_string(count));
  };
  for (const size_t count : {size_t{0}, size_t{2}, size_t{1000000}, ~size_t{0}}) {
    CHECK(refused(nullptr, count, "1 where latents is NULL"));
  }
  for (const size_t count : {size_t{0}, size_t{4097}, ~size_t{0}}) {
    CHECK(refused(face.latents().data(), count, "from 1 to 4096"));
  }
}

// A picture is in its image before the next is drawn, and stays there if that fails.
void test_pictures_are_written_as_they_are_drawn(Fixture& f) {
  constexpr size_t kCount = 4;
  constexpr size_t kRuns = 2;  // that succeed
  const hs::Inversion face = f.session.invert(f.picture);
  const std::vector<float> latents = moved(face, kCount);
  const auto images_in = [&f](std::vector<std::vector<unsigned char>>& pixels) {
    std::vector<hs::Image> images;
    for (std::vector<unsigned char>& each : pixels) images.push_back(f.result_in(each));
    return images;
  };
  const std::vector<unsigned char> untouched(f.drawn.size(), 77);
  std::vector<std::vector<unsigned char>> expected(kCount, untouched), found = expected;
  const std::vector<hs::Image> images_expected = images_in(expected);
  f.session.render(face, latents, images_expected);
  size_t runs = 0;
  const auto check_written = [&](size_t count) {
    for (size_t at = 0; at < kCount; ++at) {
      CHECK(found[at] == (at < count ? expected[at] : untouched));
    }
  };
  before_run = [&] {
    check_written(runs);
    return runs++ < kRuns;
  };
  const std::vector<hs::Image> images = images_in(found);
  const hsrt_status status =
      hsrt_session_render(f.session.get(), face.get(), latents.data(), kCount, images.data());
  CHECK(fails(status, HSRT_ERROR_BACKEND, "could not run the graph 'generator'"));
  before_run = nullptr;
  CHECK(runs == kRuns + 1);
  check_written(kRuns);
  f.session.render(face, latents, images);  // the session has not suffered
  CHECK(found == expected);
}

// Nothing that the library holds while it draws grows with the number of pictures.
void test_memory_is_flat(Fixture& f) {
  const hs::Inversion face = f.session.invert(f.picture);
  const auto needed_for = [&](size_t count) {
    const std::vector<float> latents = moved(face, count);
    const std::vector<hs::Image> images(count, f.result);
    largest_allocation = 0;
    f.session.render(face, latents, images);
    return largest_allocation;
  };
  needed_for(1);  // what is kept from then on
  const size_t one = needed_for(1);
  CHECK(one > 0 && needed_for(64) == one);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  Fixture f(arguments[1]);
  test_batch(f);
  test_counts(f);
  test_pictures_are_written_as_they_are_drawn(f);
  test_memory_is_flat(f);
  return outcome();
}
