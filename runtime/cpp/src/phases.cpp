#include "phases.hpp"

#include <cmath>

#include "failure.hpp"

namespace hsrt {
namespace {

Failure aborted() { return Failure(HSRT_ERROR_ABORTED, "the callback ended the inversion"); }

double mean_distance(const std::vector<float>& one, const std::vector<float>& other) {
  double sum = 0;
  for (size_t at = 0; at < one.size(); ++at) sum += std::abs(one[at] - other[at]);
  return sum / static_cast<double>(one.size());
}

void report(int iteration, int iterations, State& state, const hsrt_invert_options& options) {
  if (options.progress == nullptr) return;
  const std::vector<float> rendering = state.rendering();
  const std::vector<float> codes = state.codes();
  const hsrt_progress progress = {sizeof(hsrt_progress), iteration, iterations, rendering.data(),
                                  codes.empty() ? nullptr : codes.data()};
  if (options.progress(options.user, &progress) != 0) throw aborted();
}

// Run one graph `iterations` times, or until the reconstruction changes by less than `until`.
int iterate(const std::string& graph, int iterations, State& state,
            const hsrt_invert_options& options) {
  std::vector<float> before;
  for (int number = 1; number <= iterations; ++number) {
    state.run(graph);
    report(number, iterations, state, options);
    if (!(options.until > 0) || number == iterations) continue;
    std::vector<float> now = state.reconstruction();
    if (!before.empty() && mean_distance(now, before) < options.until) return number;
    before = std::move(now);
  }
  return iterations;
}

}  // namespace

int run_phases(const Method& method, int iterations, State& state,
               const hsrt_invert_options& options) {
  int done = 0;
  for (size_t at = 0; at < method.phases.size(); ++at) {
    const Phase& phase = method.phases[at];
    if (at == method.iterating_phase()) {
      done = iterate(phase.graph, iterations, state, options);
    } else {
      for (int run = 0; run < phase.repeat.value_or(1); ++run) state.run(phase.graph);
    }
  }
  return done;
}

std::set<std::string> watched_by(const hsrt_invert_options& options) {
  if (options.until > 0) return {"rendering", "reconstruction"};
  if (options.progress != nullptr) return {"rendering"};
  return {};
}

void ask_abort(const hsrt_invert_options& options) {
  if (options.abort != nullptr && options.abort(options.user) != 0) throw aborted();
}

}  // namespace hsrt
