// The loop: the phases of a method, one after the other, on the state of an inversion.
//
// All maths is in the graphs. Which graphs run, and how often, is in the bundle's manifest.

import { floatsOf } from "../backend.js";
import { RECONSTRUCTION } from "../renderer.js";

/** @typedef {import("../formats/methods.js").Method} Method */
/** @typedef {import("./state.js").State} State */
/**
 * @typedef {object} Watch What is read of the state while a method iterates.
 * @property {number | null} until stop once the mean absolute difference between two reconstructions
 *   in a row is smaller
 * @property {(number: number, state: State) => Promise<void>} onIteration called after every iteration
 * @property {() => Promise<void>} pause called before every run of a graph; it throws to give up
 */

/**
 * Run a method.
 *
 * @param {Method} method
 * @param {number} iterations how often the iterating phase runs at most; the others run as often as
 *   the method says
 * @param {State} state
 * @param {Watch} watch
 * @returns {Promise<number>} how many iterations were done
 */
export async function runPhases(method, iterations, state, watch) {
  let done = 0;
  for (const [position, { graph, repeat }] of method.phases.entries()) {
    if (position === method.iteratingPhase) {
      done = await iterate(graph, iterations, state, watch);
      continue;
    }
    for (let run = 0; run < (repeat ?? 1); run += 1) {
      await watch.pause();
      state.replace(await state.run(graph));
    }
  }
  return done;
}

/**
 * Run one graph `iterations` times, or until the reconstruction changes less than asked.
 *
 * @param {string} graph
 * @param {number} iterations
 * @param {State} state
 * @param {Watch} watch
 */
async function iterate(graph, iterations, state, watch) {
  let before = null;
  for (let number = 1; number <= iterations; number += 1) {
    await watch.pause();
    state.replace(await state.run(graph));
    await watch.onIteration(number, state);
    if (watch.until !== null && number < iterations) {
      const tensor = await state.get(RECONSTRUCTION);
      const now = floatsOf(/** @type {import("../backend.js").OrtTensor} */ (tensor));
      if (before !== null && meanDifference(now, before) < watch.until) return number;
      before = now;
    }
  }
  return iterations;
}

/**
 * @param {Float32Array} first
 * @param {Float32Array} second
 */
function meanDifference(first, second) {
  return first.reduce((sum, value, at) => sum + Math.abs(value - second[at]), 0) / first.length;
}
