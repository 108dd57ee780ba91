// One thread's use of a model: inverting and rendering; see session.py.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "renderer.hpp"
#include "state.hpp"

namespace hsrt {

struct Inversion {
  std::shared_ptr<const Model> model;
  InversionData data;
  std::vector<float> output;  // rendering, planes [3,H,W]; empty if read from a file
};

class Session {
 public:
  explicit Session(std::shared_ptr<const Model> model)
      : model_(std::move(model)), renderer_(model_) {}

  // Run the method that the options name on a target; the options have been checked by themselves.
  Inversion invert(const State::TargetOfSize& target, const hsrt_invert_options& options);

  // Takes a picture by its number: planes [3,H,W], which are gone once it returns.
  using Take = std::function<void(size_t at, const float* planes)>;

  // Draw `count` latents [count,L,W] with the kernels of an inversion that fits this model. Each
  // batch is handed on before the next is drawn, so that memory does not grow with `count`.
  void render(const Inversion& inversion, const float* latents, size_t count, const Take& take);

 private:
  std::shared_ptr<const Model> model_;
  Renderer renderer_;
};

}  // namespace hsrt
