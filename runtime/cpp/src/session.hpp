// The inversion loop and rendering: one thread's use of a model; see inversion.py.
#pragma once

#include <memory>
#include <vector>

#include "model.hpp"

namespace hsrt {

struct Inversion {
  std::shared_ptr<const Model> model;
  InversionData data;
  std::vector<float> output;  // reconstruction, planes [3,H,W]; empty if read from a file
};

// Refuse an inversion of another bundle. Throws Failure (HSRT_ERROR_INVERSION).
void check_belongs(const InversionData& data, const Model& model);

class Session {
 public:
  explicit Session(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  // `image` is the network's input [3,h,w]; the options have been checked.
  Inversion invert(const std::vector<float>& image, const hsrt_invert_options& options);

  // Draw `count` latents [count,L,W] with the weights of an inversion of this model's bundle:
  // floats [count,3,H,W].
  std::vector<float> render(const Inversion& inversion, const std::vector<float>& latents,
                            size_t count);

 private:
  class Loop;

  std::shared_ptr<const Model> model_;
  // Of the face drawn last: a slider of edits expands them once.
  std::vector<float> expanded_codes_;
  std::vector<float> expanded_channels_;
  Values expanded_weights_;

  void expand(const std::vector<float>& codes, const std::vector<float>& channels);
  Values generate(const Value& latents, const std::set<std::string>& to_host);
};

}  // namespace hsrt
