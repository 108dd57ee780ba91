// The named tensors that the phases of a method read and write; as inverting/state.py.
//
//     name             shape          starts as
//     target           [1,3,h,w]      the picture, in the size a graph asks for
//     latents          [1,L,W]        the bundle's average
//     codes            [1,M,K+1]      zero, where the bundle has codes
//     rendering        [1,3,H,W]      rendered from latents and codes when read
//     reconstruction   [1,3,h,w]      rendered with it
//     any other                       what an earlier phase put there
//
// A graph's inputs are bound by name and its outputs replace the state. ONNX cannot give an input
// and an output one name, so an output "codes_next" replaces the state "codes". What is rendered is
// stale once latents or codes are replaced, and is then rendered anew when it is read.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "renderer.hpp"

namespace hsrt {

// Name of the state that a graph's output replaces.
std::string state_name(const std::string& output);

class State {
 public:
  // The target as floats [3,h,w], in the size that a graph asks for.
  using TargetOfSize = std::function<std::vector<float>(Size)>;

  // `has_codes`: whether the method has codes; else they are zeros that kernels are expanded from.
  // `watched` is brought to the host whenever it is rendered, because somebody will look at it.
  // `before_run` is called before every graph that runs; what it throws ends the inversion.
  State(Renderer& renderer, TargetOfSize target, bool has_codes, std::set<std::string> watched,
        std::function<void()> before_run);

  // Run a graph and let its outputs replace the state.
  void run(const std::string& graph);

  // Floats of the state, on the host: [3,H,W], [3,h,w], [L,W], [M,K+1]; the last are none where the
  // method has no codes.
  std::vector<float> rendering() { return pictures("rendering", manifest_.image_size); }
  std::vector<float> reconstruction() { return pictures("reconstruction", manifest_.input_size); }
  std::vector<float> latents();
  std::vector<float> codes() const { return has_codes_ ? all_codes() : std::vector<float>(); }

 private:
  Renderer& renderer_;
  const Model& model_;
  const Manifest& manifest_;
  const TargetOfSize target_;
  const bool has_codes_;
  const std::set<std::string> watched_;
  const std::function<void()> before_run_;
  std::list<std::vector<float>> floats_;  // of the tensors below that are ours
  std::map<Size, Value> targets_;
  Values tensors_;
  std::set<std::string> on_host_;  // what is rendered and can be read

  Value wrap(std::vector<float> floats, const std::vector<int64_t>& shape);
  Value read(const std::string& graph, const std::string& name, const TensorSpec& spec);
  Value target(const std::string& graph, const TensorSpec& spec);
  std::vector<float> all_codes() const;
  void start_latents();
  void replace(const Values& outputs);
  void render(std::set<std::string> to_host);
  std::vector<float> pictures(const std::string& name, Size size);
};

}  // namespace hsrt
