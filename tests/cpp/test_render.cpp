// Drawing many latents in one call.
//
//     test_render BUNDLE
#include <hyperstyle_rt/hyperstyle_rt.hpp>
#include <string>
#include <vector>

#include "fixture.hpp"

namespace hs = hyperstyle_rt;

namespace {

void test_batch(Fixture& f) {
  const hs::Inversion face = f.session.invert(f.picture);
  std::vector<float> latents(face.latents().begin(), face.latents().end());
  for (const float value : face.latents()) latents.push_back(value + 0.5F);
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

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  Fixture f(arguments[1]);
  test_batch(f);
  test_counts(f);
  return outcome();
}
