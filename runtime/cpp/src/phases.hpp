// The loop: the phases of a method, one after the other, on the state of an inversion; the
// counterpart of inverting/phases.py. All maths is in the graphs; which run, and how often, is in
// the bundle's manifest.
#pragma once

#include "hyperstyle_rt/hyperstyle_rt.h"
#include "state.hpp"

namespace hsrt {

// Run a method, its iterating phase at most `iterations` times; gives how often it ran. Of the
// options, `until` and the callbacks count; a callback that asks to end throws Failure
// (HSRT_ERROR_ABORTED).
int run_phases(const Method& method, int iterations, State& state,
               const hsrt_invert_options& options);

// What to hand to a state as `watched` and `before_run` for these options.
std::set<std::string> watched_by(const hsrt_invert_options& options);
void ask_abort(const hsrt_invert_options& options);

}  // namespace hsrt
